// SPDX-License-Identifier: GPL-2.0

//! `make report`: what the programs have found, in one page that needs no network.
//!
//! Each program leaves its results in the cache. A section shows those of one program, with the date of
//! their file; what was not run says so. Nothing is run for the page.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use fs_err as fs;
use maud::{html, Markup, PreEscaped};
use serde_json::Value;

use host::paths::Paths;

const STYLE: &str = "
h1 { font-size: 1.5rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; background: #fff; } .wide { overflow-x: auto; }
th, td { padding: .18rem .6rem; border-bottom: 1px solid #e3e6eb; text-align: right;
         font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #5a6478; } td:first-child, th:first-child { text-align: left; }
.bar { display: flex; width: 16rem; height: .8rem; background: #e3e6eb; }
.bar i { display: block; height: 100%; } .good { background: #0f766e; } .soft { background: #d9a441; }
.ill { background: #b91c1c; } .bad { color: #b91c1c; font-weight: 600; } .when { color: #5a6478; }
figure svg { max-width: 100%; height: auto; }
pre, figure { background: #fff; border: 1px solid #e3e6eb; overflow-x: auto; margin: 0; padding: .5rem; }
";

/// Writes the page and returns its path.
pub fn write(paths: &Paths, out: &Path) -> Result<PathBuf> {
    let cache = &paths.cache;
    let body = html! {
        p class="when" { "Each section has the results of the last run on this machine." }
        (section("Instructions, C and Rust", "bench", &cache.join("bench/bench.svg"), |text| {
            html! { figure { (PreEscaped(text)) } }
        }))
        (section("Public suites, C and Rust", "conform", &cache.join("conform/conform.json"), |text| {
            json(text, conform)
        }))
        (section("Interfaces, C and Rust", "abi", &paths.result("abi.json"), |text| json(text, abi)))
        (section("Faults on purpose", "mutants", &paths.result("mutants.json"), |text| {
            json(text, mutants)
        }))
        (section("Lines that the tests run", "coverage", &cache.join("coverage/coverage.txt"), |text| {
            html! { pre { (text) } }
        }))
    };
    fs::create_dir_all(out)?;
    let path = out.join("report.html");
    fs::write(
        &path,
        crate::html::page("rust-dax: what its tests found", STYLE, body),
    )?;
    Ok(path)
}

/// Returns a section with what `show` makes of a file.
fn section(title: &str, verb: &str, file: &Path, show: impl FnOnce(&str) -> Markup) -> Markup {
    let text = fs::read_to_string(file).ok();
    let when = fs::metadata(file)
        .and_then(|data| data.modified())
        .map(|time| humantime::format_rfc3339_seconds(time).to_string());
    html! {
        section {
            h2 { (title) }
            @match (text, when) {
                (Some(text), Ok(when)) => {
                    p class="when" { code { "make " (verb) } ", " (when) }
                    div class="wide" { (show(&text)) }
                }
                _ => { p { "Not run yet: " code { "make " (verb) } } }
            }
        }
    }
}

/// Shows a file of JSON.
fn json(text: &str, show: impl FnOnce(&Value) -> Markup) -> Markup {
    match serde_json::from_str(text) {
        Ok(value) => show(&value),
        Err(e) => html! { p class="bad" { "The file cannot be read: " (e) } },
    }
}

/// Returns a bar of shares: good, doubtful, bad.
fn bar(shares: [usize; 3]) -> Markup {
    let all = shares.iter().sum::<usize>().max(1);
    html! {
        span class="bar" {
            @for (class, share) in ["good", "soft", "ill"].into_iter().zip(shares) {
                i class=(class) style=(format!("width:{:.1}%", share as f64 * 100.0 / all as f64)) {}
            }
        }
    }
}

/// Returns the elements of a list.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// Returns the text of a field.
fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// Returns the table of the public suites.
fn conform(report: &Value) -> Markup {
    let count = |suite: &Value, class: &str| {
        let results = list(suite, "results").iter();
        results.filter(|pair| field(pair, "class") == class).count()
    };
    html! {
        table {
            tr { th { "suite" } th { "names" } th { "pass" } th { "Rust better" } th { "Rust worse" } th {} }
            @for suite in list(report, "suites") {
                @let all = list(suite, "results").len();
                @let passing = count(suite, "passing");
                @let better = count(suite, "newly-passing");
                @let worse = count(suite, "newly-failing");
                tr {
                    td { (field(suite, "name")) }
                    td { (all) } td { (passing) } td { (better) }
                    td class=[(worse > 0).then_some("bad")] { (worse) }
                    td { (bar([passing + better, all - passing - better - worse, worse])) }
                }
            }
        }
    }
}

/// Returns the table of the interfaces.
fn abi(report: &Value) -> Markup {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap_or_default();
    html! {
        table {
            tr { th { "area" } th { "C" } th { "Rust" } th { "intended" } th { "unintended" } }
            @for row in list(report, "areas") {
                @let unintended = number(row, "unintended");
                tr {
                    td { (field(row, "area")) }
                    td { (number(row, "c")) } td { (number(row, "rust")) } td { (number(row, "intended")) }
                    td class=[(unintended > 0).then_some("bad")] { (unintended) }
                }
            }
        }
    }
}

/// Returns how many mutants were noticed, and the names of the others.
fn mutants(records: &Value) -> Markup {
    let mut fates: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, record) in records.as_object().into_iter().flatten() {
        // A fate is a name, or a name with a reason.
        let fate = &record["fate"];
        let kind = fate.as_str().or_else(|| {
            let reason = fate.as_object()?;
            reason.keys().next().map(String::as_str)
        });
        fates
            .entry(kind.unwrap_or("unknown"))
            .or_default()
            .push(name);
    }
    let number = |kind: &str| fates.get(kind).map_or(0, Vec::len);
    let (killed, survived) = (number("Killed"), number("Survived"));
    let all: usize = fates.values().map(Vec::len).sum();
    html! {
        p {
            (killed) " of " (all) " that were tried were noticed, " (survived) " were not. "
            (bar([killed, all - killed - survived, survived]))
        }
        @for name in fates.get("Survived").into_iter().flatten() { p class="bad" { (name) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_in_which_rust_does_worse_is_seen() {
        let text = r#"{"suites":[{"name":"mm","results":[{"class":"passing"},{"class":"newly-failing"}]}]}"#;
        let page = json(text, conform).into_string();
        assert!(page.contains(r#"<td class="bad">1</td>"#), "{page}");
        assert!(page.contains("width:50.0%"), "{page}");
    }

    #[test]
    fn mutants_by_their_fate() {
        let text = r#"{"a":{"fate":{"Killed":"x"}},"b":{"fate":"Survived"},"c":{"fate":{"NotBuilt":"y"}}}"#;
        let page = json(text, mutants).into_string();
        assert!(
            page.contains("1 of 3 that were tried were noticed, 1 were not"),
            "{page}"
        );
        assert!(page.contains(r#"<p class="bad">b</p>"#), "{page}");
    }

    #[test]
    fn what_is_missing_is_told() {
        let page = section(
            "x",
            "bench",
            Path::new("/nonexistent"),
            |_| html! { "shown" },
        );
        assert!(page.into_string().contains("Not run yet"));
        assert!(json("{", abi).into_string().contains("cannot be read"));
    }
}

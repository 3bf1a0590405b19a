// SPDX-License-Identifier: GPL-2.0

//! Tests of comparisons, with recorded results.

use super::*;

const C: &str = r#"
{"test":"dm.sh","attempt":1,"results":[{"name":"dm.sh","verdict":"pass"}],"seconds":9.1,"log":"dm.sh.1.log"}
{"test":"cow","attempt":1,"results":[{"name":"cow: a","verdict":"pass"},{"name":"cow: b","verdict":"fail","reason":"leak"},{"name":"cow: c","verdict":"skip","reason":"no swap"},{"name":"cow: (exit status)","verdict":"fail"}],"seconds":40.0,"log":"cow.1.log"}
{"test":"gup","attempt":1,"results":[{"name":"gup","verdict":"pass"}],"seconds":1.0,"log":"gup.1.log"}
{"test":"only-c","attempt":1,"results":[{"name":"only-c","verdict":"pass"}],"seconds":1.0,"log":"x"}
"#;

const RUST: &str = r#"
{"test":"dm.sh","attempt":1,"results":[{"name":"dm.sh","verdict":"pass"}],"seconds":9.0,"log":"dm.sh.1.log"}
{"test":"cow","attempt":1,"results":[{"name":"cow: a","verdict":"pass"},{"name":"cow: b","verdict":"pass"},{"name":"cow: c","verdict":"skip","reason":"no swap"},{"name":"cow: (exit status)","verdict":"pass"}],"seconds":40.0,"log":"cow.1.log"}
{"test":"gup","attempt":1,"results":[{"name":"gup","verdict":"pass"}],"splats":["WARNING: x (mm/gup.c:9)"],"seconds":1.0,"log":"gup.1.log"}
"#;

fn store(text: &str) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.jsonl");
    fs_err::write(&path, text.trim_start()).unwrap();
    let store = Store::open(&path).unwrap();
    (dir, store)
}

fn classes(pairs: &[Pair]) -> Vec<(&str, Class)> {
    pairs.iter().map(|p| (p.name.as_str(), p.class)).collect()
}

fn record(test: &str, attempt: u32, verdict: Verdict) -> Record {
    Record {
        test: test.into(),
        attempt,
        results: vec![Named {
            name: test.into(),
            verdict,
            reason: String::new(),
        }],
        splats: Vec::new(),
        seconds: 1.0,
        log: String::new(),
    }
}

/// Returns the class of a name with these verdicts, one per attempt.
fn class(c: &[Verdict], rust: &[Verdict]) -> Class {
    let records = |list: &[Verdict]| -> Vec<Record> {
        (1..).zip(list).map(|(n, v)| record("t", n, *v)).collect()
    };
    let (c, rust) = (records(c), records(rust));
    let refs = |list: &'static [Record]| list.iter().collect::<Vec<_>>();
    let (c, rust) = (refs(c.leak()), refs(rust.leak()));
    test_pairs("t", &c, &rust)[0].class
}

#[test]
fn recorded_results() {
    let ((_a, c), (_b, rust)) = (store(C), store(RUST));
    let tests = ["cow", "dm.sh", "gup"].map(str::to_owned).into();
    let pairs = compare(&tests, &c, &rust);
    assert_eq!(
        classes(&pairs),
        [
            ("cow: a", Class::Passing),
            ("cow: b", Class::NewlyPassing),
            ("cow: c", Class::SkippedOnBoth),
            ("cow: (exit status)", Class::NewlyPassing),
            ("dm.sh", Class::Passing),
            ("gup", Class::Passing),
            ("gup (kernel log)", Class::NewlyFailing),
        ]
    );
    let splat = &pairs[6];
    assert_eq!(splat.c.words(), "pass");
    assert_eq!(splat.rust.reason, "WARNING: x (mm/gup.c:9)");
    assert_eq!(to_repeat(&pairs), ["cow", "gup"]);
}

#[test]
fn worse_means_worse_than_c_ever_was() {
    use Verdict::*;
    assert_eq!(class(&[Pass], &[Fail]), Class::NewlyFailing);
    assert_eq!(class(&[Pass], &[Skip]), Class::NewlyFailing);
    assert_eq!(class(&[Skip], &[Timeout]), Class::NewlyFailing);
    assert_eq!(class(&[Fail], &[Crash]), Class::NewlyFailing);
    assert_eq!(class(&[Pass, Pass], &[Fail, Fail]), Class::NewlyFailing);
    assert_eq!(class(&[Pass, Pass], &[Fail, Pass]), Class::Unsteady);
    assert_eq!(class(&[Pass, Fail], &[Fail, Fail]), Class::Unsteady);
    assert_eq!(class(&[Fail], &[Timeout]), Class::FailingOnBoth);
    assert_eq!(class(&[Crash], &[Fail]), Class::NewlyPassing);
    assert_eq!(class(&[Fail, Fail], &[Pass, Pass]), Class::NewlyPassing);
}

#[test]
fn a_test_that_ran_on_one_kernel_only_is_not_forgotten() {
    let ((_a, c), (_b, rust)) = (store(C), store(RUST));
    let pairs = compare(&["only-c".to_owned()].into(), &c, &rust);
    assert_eq!(classes(&pairs), [("only-c", Class::NewlyFailing)]);
    assert_eq!(pairs[0].rust.words(), "no result");
}

#[test]
fn a_case_that_was_not_reached_has_no_result() {
    let mut cut = record("t", 1, Verdict::Crash);
    cut.results[0].name = "t: (exit status)".into();
    let mut whole = cut.clone();
    whole.results[0].verdict = Verdict::Pass;
    whole.results.push(Named {
        name: "t: last".into(),
        verdict: Verdict::Pass,
        reason: String::new(),
    });
    let pairs = test_pairs("t", &[&whole], &[&cut]);
    assert_eq!(
        classes(&pairs),
        [
            ("t: (exit status)", Class::NewlyFailing),
            ("t: last", Class::NewlyFailing),
        ]
    );
    assert_eq!(pairs[1].rust.words(), "no result");
}

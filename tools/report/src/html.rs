// SPDX-License-Identifier: GPL-2.0

//! The frame of the pages that the programs write, each a file that needs no network.

use maud::{html, Markup, PreEscaped, DOCTYPE};

/// What the pages have in common.
const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; color: #1e232d; background: #f6f7f9;
       max-width: 1080px; margin: 0 auto; padding: 1.5rem; }
";

/// Returns a page with this title, a style of its own, and this body below the heading.
pub fn page(title: &str, style: &str, body: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body {
                h1 { (title) }
                (body)
            }
        }
    };
    page.into_string()
}

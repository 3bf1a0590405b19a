// SPDX-License-Identifier: GPL-2.0

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Implements `#[kunit_tests]`; see the attribute's documentation in `lib.rs`.
///
/// The module stays as it is, but for the `#[test]` attributes, and gets at its end, per test, a
/// function that KUnit can call, and then the suite.
pub(crate) fn kunit_tests(attr: TokenStream, item: TokenStream) -> TokenStream {
    let suite = attr.to_string();
    let mut tokens: Vec<TokenTree> = item.into_iter().collect();
    let body = match tokens.pop() {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => group,
        _ => panic!("`#[kunit_tests(name)]` goes on a module with a body"),
    };
    assert!(
        !suite.is_empty(),
        "`#[kunit_tests(name)]` takes the suite's name"
    );

    let (mut stream, tests) = strip_tests(body.stream());
    // KUnit reports the file of a failed assertion; a macro cannot ask for it on this compiler,
    // but Kbuild says which object it builds.
    let file = std::env::var("RUST_MODFILE").unwrap_or_default() + ".rs";

    // Assertions report to KUnit instead of panicking. Textual scope: they have to stand before
    // the tests.
    let asserts = format!(
        "macro_rules! assert {{
            ($condition:expr $(,)?) => {{
                ::kernel::kunit_assert!(\"{suite}\", \"{file}\", 0, $condition)
            }}
        }}
        macro_rules! assert_eq {{
            ($left:expr, $right:expr $(,)?) => {{
                ::kernel::kunit_assert_eq!(\"{suite}\", \"{file}\", 0, $left, $right)
            }}
        }}"
    );
    let mut output: TokenStream = asserts.parse().expect("assertion macros");

    let mut cases = String::new();
    let mut wrappers = String::new();
    for test in &tests {
        // # Safety of the wrapper: KUnit calls it, with the running test, which it does not use.
        wrappers += &format!(
            "unsafe extern \"C\" fn kunit_rust_wrapper_{test}(
                _test: *mut ::kernel::bindings::kunit
            ) {{
                {test}();
            }}"
        );
        cases += &format!("::kernel::kunit::case(c\"{test}\", kunit_rust_wrapper_{test}),");
    }
    let count = tests.len() + 1;
    let registration = format!(
        "{wrappers}
        static KUNIT_CASES: ::kernel::kunit::Cases<{count}> = ::kernel::kunit::Cases::new([
            {cases} ::kernel::kunit::empty_case(),
        ]);
        static KUNIT_SUITE: ::kernel::kunit::Suite =
            ::kernel::kunit::Suite::new(\"{suite}\", KUNIT_CASES.as_ptr());
        #[used]
        #[link_section = \".kunit_test_suites\"]
        static KUNIT_SUITE_PTR: ::kernel::kunit::SuitePtr =
            ::kernel::kunit::SuitePtr(&KUNIT_SUITE);"
    );
    stream.extend(
        registration
            .parse::<TokenStream>()
            .expect("suite registration"),
    );

    output.extend(stream);
    let mut body = Group::new(Delimiter::Brace, output);
    body.set_span(proc_macro::Span::call_site());
    tokens.push(TokenTree::Group(body));
    tokens.into_iter().collect()
}

/// Takes the `#[test]` attributes off and collects the names of the functions they stood on.
fn strip_tests(stream: TokenStream) -> (TokenStream, Vec<String>) {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut tests = Vec::new();
    let mut is_test = false;
    let mut after_fn = false;
    for token in stream {
        match &token {
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Bracket
                    && group.stream().to_string() == "test" =>
            {
                // The `#` in front of it goes as well.
                kept.pop();
                is_test = true;
                continue;
            }
            TokenTree::Ident(word) => {
                let word = word.to_string();
                if after_fn && is_test {
                    tests.push(word.clone());
                    is_test = false;
                }
                after_fn = word == "fn";
            }
            _ => after_fn = false,
        }
        kept.push(token);
    }
    (kept.into_iter().collect(), tests)
}

// SPDX-License-Identifier: GPL-2.0

//! The attribute `#[kunit_tests]`.

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Implements `#[kunit_tests]`, which is documented in `lib.rs`.
///
/// Removes the `#[test]` attributes of the module, and appends to it a function that KUnit can call
/// for each test, and then the suite.
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
    // KUnit reports the file of a failed assertion. On this compiler a macro cannot get it from the
    // span, but Kbuild passes the name of the object that it builds.
    let file = std::env::var("RUST_MODFILE").unwrap_or_default() + ".rs";

    // Assertions report to KUnit instead of panicking. The scope of these macros is textual, so
    // they come before the tests.
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
        // KUnit calls the wrapper with the running test, which the wrapper does not use, so it has
        // no safety requirements.
        wrappers += &format!(
            "unsafe extern \"C\" fn kunit_rust_wrapper_{test}(
                _test: *mut ::kernel::bindings::kunit
            ) {{
                {test}();
            }}"
        );
        cases += &format!("::kernel::kunit::kunit_case(c\"{test}\", kunit_rust_wrapper_{test}),");
    }
    let count = tests.len() + 1;
    let registration = format!(
        "{wrappers}
        static KUNIT_CASES: ::kernel::kunit::Cases<{count}> = ::kernel::kunit::Cases::new([
            {cases} ::kernel::kunit::kunit_case_null(),
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

/// Removes the `#[test]` attributes, and returns the names of the functions that had one.
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
                // Remove the `#` in front of it as well.
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

// SPDX-License-Identifier: GPL-2.0

//! The attribute `#[export]`.

use proc_macro::{TokenStream, TokenTree};

/// The arguments of the attribute, and the licence string of each.
const EXPORTS: [(&str, &str); 2] = [("EXPORT_SYMBOL", ""), ("EXPORT_SYMBOL_GPL", "GPL")];

/// Implements `#[export]`, which is documented in `lib.rs`.
pub(crate) fn export(attr: TokenStream, item: TokenStream) -> TokenStream {
    let Some(name) = function_name(item.clone()) else {
        return error("`#[export]` goes on a function");
    };
    let argument = attr.to_string();
    let export_symbol = if argument.is_empty() {
        String::new()
    } else {
        match EXPORTS.iter().find(|(word, _)| *word == argument) {
            Some((_, licence)) => export_symbol(&name, licence),
            None => return error("`#[export]` takes `EXPORT_SYMBOL` or `EXPORT_SYMBOL_GPL`"),
        }
    };

    // Both branches must have the same type, so this compiles only if the function has exactly the
    // prototype that bindgen found in the C header.
    let check = format!(
        "const _: () = {{
            if true {{
                ::kernel::bindings::{name}
            }} else {{
                {name}
            }};
        }};"
    );

    let mut output: TokenStream = parse(&check);
    output.extend(parse(&export_symbol));
    output.extend(parse("#[no_mangle]"));
    output.extend(item);
    output
}

/// Returns the record from which modpost creates an entry of the symbol table: licence, namespace
/// and address, as `include/linux/export.h` defines it.
fn export_symbol(name: &str, licence: &str) -> String {
    format!(
        "::core::arch::global_asm!(
            \".section \\\".export_symbol\\\",\\\"a\\\"\",
            \"__export_symbol_{name}:\",
            \".asciz \\\"{licence}\\\"\",
            \".ascii \\\"\\\\0\\\"\",
            \".balign 8\",
            \".quad {name}\",
            \".previous\",
        );"
    )
}

/// Returns the name of the function that the attribute is on.
fn function_name(item: TokenStream) -> Option<String> {
    let mut tokens = item.into_iter();
    while let Some(token) = tokens.next() {
        if matches!(&token, TokenTree::Ident(word) if word.to_string() == "fn") {
            return match tokens.next() {
                Some(TokenTree::Ident(name)) => Some(name.to_string()),
                _ => None,
            };
        }
    }
    None
}

/// Parses Rust code.
fn parse(text: &str) -> TokenStream {
    text.parse()
        .expect("Error parsing formatted string into token stream.")
}

/// Returns code that fails to compile with this message.
fn error(message: &str) -> TokenStream {
    parse(&format!("::core::compile_error!(\"{message}\");"))
}

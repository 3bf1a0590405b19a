// SPDX-License-Identifier: GPL-2.0

//! The structs that bindgen generated from the C headers, parsed from its
//! output.
//!
//! Members of anonymous structs and unions belong to the enclosing struct in
//! C; bindgen gives the inner one a field `__bindgen_anon_1` and a type of its
//! own. Here they are joined again.

use std::collections::BTreeMap;

use anyhow::{bail, Context, Result};
use syn::{Fields, GenericArgument, Item, PathArguments, Type};

/// All structs and unions by name.
pub struct Bindings {
    types: BTreeMap<String, Struct>,
}

/// A struct or union.
struct Struct {
    is_union: bool,
    fields: Vec<(String, Kind)>,
}

/// The kind of a field's type.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A named type or any other type that has a size.
    Plain(Option<String>),
    /// `__BindgenUnionField<T>`: a member of a union whose members are not
    /// `Copy`. It occupies no space itself.
    Member(Option<String>),
    /// An array without a length.
    Incomplete,
}

/// One member of a struct, with both its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The member's name in C.
    pub c: String,
    /// Steps from the struct to the member: a type, and a path in it.
    pub steps: Vec<(String, String)>,
    pub has: Size,
}

/// The expression by which rustc computes the size of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    OfField,
    OfMember,
    None,
}

/// The tag of the type in C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Struct,
    Union,
    Typedef,
}

impl Bindings {
    /// Parses `bindings_generated.rs`.
    pub fn parse(text: &str) -> Result<Bindings> {
        let file = syn::parse_file(text).context("bindgen's output is no Rust")?;
        let mut types = BTreeMap::new();
        for item in &file.items {
            let (ident, fields, is_union) = match item {
                Item::Struct(s) => match &s.fields {
                    Fields::Named(fields) => (&s.ident, fields, false),
                    _ => continue,
                },
                Item::Union(u) => (&u.ident, &u.fields, true),
                _ => continue,
            };
            let fields: Vec<_> = fields
                .named
                .iter()
                .filter_map(|f| Some((f.ident.as_ref()?.to_string(), kind(&f.ty))))
                .collect();
            types.insert(ident.to_string(), Struct { is_union, fields });
        }
        if types.is_empty() {
            bail!("bindgen's output has no struct");
        }
        Ok(Bindings { types })
    }

    /// Returns whether this is a struct whose members are all visible in C.
    pub fn is_complete(&self, name: &str) -> bool {
        self.types
            .get(name)
            .is_some_and(|t| !t.fields.iter().any(|(f, _)| f == "_unused"))
    }

    /// Returns its name in C: a typedef by its ending, a union by its members.
    pub fn tag(&self, name: &str) -> Tag {
        let is_union = self.types.get(name).is_some_and(|t| {
            t.is_union || t.fields.iter().any(|(f, _)| f == "bindgen_union_field")
        });
        match (name.ends_with("_t"), is_union) {
            (true, _) => Tag::Typedef,
            (_, true) => Tag::Union,
            _ => Tag::Struct,
        }
    }

    /// Returns the members that have a name and an address; a bit field has
    /// none.
    pub fn members(&self, name: &str) -> Vec<Member> {
        let mut list = Vec::new();
        self.collect(&[(name.to_owned(), String::new())], name, &mut list);
        list
    }

    fn collect(&self, steps: &[(String, String)], at: &str, list: &mut Vec<Member>) {
        let Some(found) = self.types.get(at) else {
            return;
        };
        for (field, kind) in &found.fields {
            let steps = joined(steps, field);
            if field.starts_with("__bindgen_anon_") {
                match kind {
                    Kind::Plain(Some(inner)) => self.collect(&steps, inner, list),
                    Kind::Member(Some(inner)) => {
                        let next = (inner.clone(), String::new());
                        self.collect(&[steps, vec![next]].concat(), inner, list);
                    }
                    _ => (),
                }
                continue;
            }
            let made_up = [
                "__bindgen",
                "_bindgen",
                "bindgen_",
                "_bitfield",
                "_unused",
                "_address",
            ];
            if made_up.iter().any(|p| field.starts_with(p)) {
                continue;
            }
            list.push(Member {
                c: c_name(field),
                steps,
                has: match kind {
                    Kind::Plain(_) => Size::OfField,
                    Kind::Member(_) => Size::OfMember,
                    Kind::Incomplete => Size::None,
                },
            });
        }
    }
}

/// Returns the steps with a field added to the last path.
fn joined(steps: &[(String, String)], field: &str) -> Vec<(String, String)> {
    let mut steps = steps.to_vec();
    if let Some((_, path)) = steps.last_mut() {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(field);
    }
    steps
}

/// Returns the C name of a field; bindgen appends `_` to a name that is a
/// keyword of Rust.
fn c_name(field: &str) -> String {
    match field.strip_suffix('_') {
        Some(word) if syn::parse_str::<syn::Ident>(word).is_err() => word.to_owned(),
        _ => field.to_owned(),
    }
}

fn kind(ty: &Type) -> Kind {
    let Type::Path(path) = ty else {
        return Kind::Plain(None);
    };
    let Some(last) = path.path.segments.last() else {
        return Kind::Plain(None);
    };
    match last.ident.to_string().as_str() {
        "__IncompleteArrayField" => Kind::Incomplete,
        "__BindgenUnionField" => {
            let inner = match &last.arguments {
                PathArguments::AngleBracketed(args) => match args.args.first() {
                    Some(GenericArgument::Type(ty)) => ty,
                    _ => return Kind::Member(None),
                },
                _ => return Kind::Member(None),
            };
            match kind(inner) {
                Kind::Incomplete => Kind::Incomplete,
                Kind::Plain(name) | Kind::Member(name) => Kind::Member(name),
            }
        }
        name => Kind::Plain(Some(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As bindgen 0.71 writes it.
    const TEXT: &str = "
#[repr(C)]
pub struct dev_pagemap {
    pub ref_: percpu_ref,
    pub type_: memory_type,
    pub _bitfield_align_1: [u8; 0],
    pub _bitfield_1: __BindgenBitfieldUnit<[u8; 4usize]>,
    pub trailing_: u8,
    pub __bindgen_anon_1: dev_pagemap__bindgen_ty_1,
}
#[repr(C)]
pub struct dev_pagemap__bindgen_ty_1 {
    pub range: __BindgenUnionField<range>,
    pub __bindgen_anon_1: __BindgenUnionField<dev_pagemap__bindgen_ty_1__bindgen_ty_1>,
    pub bindgen_union_field: [u64; 2usize],
}
#[repr(C)]
pub struct dev_pagemap__bindgen_ty_1__bindgen_ty_1 {
    pub ranges: __IncompleteArrayField<range>,
}
#[repr(C)]
pub struct dax_device { _unused: [u8; 0] }
#[repr(C)]
pub union choice { pub a: u8, pub b: u16 }
#[repr(C)]
pub struct pfn_t { pub val: u64 }
";

    #[test]
    fn members_of_anonymous_structs_belong_to_the_outer_one() {
        let bindings = Bindings::parse(TEXT).unwrap();
        let members = bindings.members("dev_pagemap");
        let names: Vec<_> = members.iter().map(|m| m.c.as_str()).collect();
        assert_eq!(names, ["ref", "type", "trailing_", "range", "ranges"]);
        let step = |t: &str, p: &str| (t.to_owned(), p.to_owned());
        assert_eq!(members[0].steps, [step("dev_pagemap", "ref_")]);
        assert_eq!(
            members[3].steps,
            [step("dev_pagemap", "__bindgen_anon_1.range")]
        );
        assert_eq!(members[3].has, Size::OfMember);
        assert_eq!(
            members[4].steps,
            [
                step("dev_pagemap", "__bindgen_anon_1.__bindgen_anon_1"),
                step("dev_pagemap__bindgen_ty_1__bindgen_ty_1", "ranges")
            ]
        );
        assert_eq!(members[4].has, Size::None);
    }

    #[test]
    fn tags() {
        let bindings = Bindings::parse(TEXT).unwrap();
        assert_eq!(bindings.tag("dev_pagemap"), Tag::Struct);
        assert_eq!(bindings.tag("choice"), Tag::Union);
        assert_eq!(bindings.tag("pfn_t"), Tag::Typedef);
        assert!(!bindings.is_complete("dax_device") && !bindings.is_complete("absent"));
        assert!(bindings.is_complete("choice"));
    }
}

//! Every path a Rust source names, wherever it stands: `use` trees with nested groups, types,
//! expressions, attributes and the tokens inside macro calls. Used by `rooms`.

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path as it was meant: `self` and `super` are resolved to `crate::…`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub path: Vec<String>,
    pub line: usize,
}

/// The paths named in `text`, the source of the module `crate::<module>`.
pub fn named(text: &str, module: &[String]) -> Result<Vec<Named>> {
    let file = syn::parse_file(text).context("failed to parse Rust")?;
    let mut walk = Walk {
        module: module.to_vec(),
        found: Vec::new(),
    };
    walk.visit_file(&file);
    Ok(walk.found)
}

struct Walk {
    module: Vec<String>,
    found: Vec<Named>,
}

impl Walk {
    fn push(&mut self, segments: &[String], line: usize) {
        let path = match segments[0].as_str() {
            "self" | "super" => self.resolve(segments),
            _ => segments.to_vec(),
        };
        self.found.push(Named { path, line });
    }

    fn resolve(&self, segments: &[String]) -> Vec<String> {
        let ups = segments.iter().filter(|s| *s == "super").count();
        let stay = self.module.len().saturating_sub(ups);
        let named = segments.iter().filter(|s| *s != "self" && *s != "super");
        std::iter::once("crate".to_owned())
            .chain(self.module[..stay].iter().cloned())
            .chain(named.cloned())
            .collect()
    }

    fn use_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let mut path = before.to_vec();
        match tree {
            syn::UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.use_tree(&path, &part.tree);
            }
            syn::UseTree::Name(name) => self.use_leaf(path, &name.ident),
            syn::UseTree::Rename(name) => self.use_leaf(path, &name.ident),
            syn::UseTree::Glob(glob) if !path.is_empty() => {
                self.push(&path, glob.star_token.spans[0].start().line);
            }
            syn::UseTree::Glob(_) => {}
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(before, item)),
        }
    }

    fn use_leaf(&mut self, mut path: Vec<String>, name: &syn::Ident) {
        if name != "self" || path.is_empty() {
            path.push(name.to_string());
        }
        self.push(&path, name.span().start().line);
    }

    /// Paths inside tokens that nobody has parsed: `a::b::c`, groups included.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if colons == 2 && !path.is_empty() => path.push(ident.to_string()),
                TokenTree::Ident(ident) => {
                    self.flush(&mut path, line);
                    line = ident.span().start().line;
                    path = vec![ident.to_string()];
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) if colons == 2 && group.delimiter() == Delimiter::Brace => {
                    self.token_group(&path, group.stream());
                    path.clear();
                }
                TokenTree::Group(group) => {
                    self.flush(&mut path, line);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => self.flush(&mut path, line),
            }
            colons = 0;
        }
        self.flush(&mut path, line);
    }

    /// `path::{ … }` inside tokens: a `use` written in a macro.
    fn token_group(&mut self, before: &[String], tokens: TokenStream) {
        let prefix: String = before.iter().map(|part| format!("{part}::")).collect();
        match syn::parse_str::<syn::UseTree>(&format!("{prefix}{{{tokens}}}")) {
            Ok(tree) => self.use_tree(&[], &tree),
            Err(_) => self.tokens(tokens),
        }
    }

    fn flush(&mut self, path: &mut Vec<String>, line: usize) {
        if path.len() > 1 {
            self.push(path, line);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        // A single name is a variable or was brought in by a `use` that is seen by itself.
        if path.segments.len() > 1 {
            let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
            self.push(&segments, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.tokens(list.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str, module: &str) -> Vec<String> {
        let module: Vec<String> = module.split("::").map(str::to_owned).collect();
        named(text, &module)
            .unwrap()
            .into_iter()
            .map(|n| n.path.join("::"))
            .collect()
    }

    #[test]
    fn nested_groups_of_a_use_are_flattened() {
        let seen = paths(
            "use crate::{runs, db::{self, run::{insert, find as f}}, http::*};",
            "http",
        );
        assert_eq!(
            seen,
            [
                "crate::runs",
                "crate::db",
                "crate::db::run::insert",
                "crate::db::run::find",
                "crate::http"
            ]
        );
    }

    #[test]
    fn super_and_self_are_resolved_from_where_they_stand() {
        assert_eq!(
            paths("use super::super::db::run;", "http::runs"),
            ["crate::db::run"]
        );
        assert_eq!(
            paths("mod inner { use super::super::db; }", "http"),
            ["crate::db"]
        );
        assert_eq!(
            paths("use self::page::Page;", "http"),
            ["crate::http::page::Page"]
        );
    }

    #[test]
    fn types_expressions_attributes_and_macro_tokens_are_seen() {
        let text = "#[derive(sqlx::FromRow)] struct A(crate::db::Row);\n\
                    async fn f() { crate::db::find().await; tokio::select! { x = crate::watch::next() => {} } }\n\
                    fn g() { sqlx::query!(\"select 1\"); }";
        let seen = paths(text, "http");
        for wanted in [
            "sqlx::FromRow",
            "crate::db::Row",
            "crate::db::find",
            "crate::watch::next",
            "sqlx::query",
        ] {
            assert!(seen.iter().any(|path| path == wanted), "{wanted} not in {seen:?}");
        }
    }

    #[test]
    fn a_use_inside_a_macro_is_seen_with_its_group() {
        assert!(paths("m! { use crate::{db, runs::Run}; }", "http").contains(&"crate::db".to_owned()));
    }

    #[test]
    fn the_line_is_that_of_the_name() {
        let seen = named("use crate::{\n    runs,\n    db::run,\n};", &[]).unwrap();
        assert_eq!(seen.iter().map(|n| n.line).collect::<Vec<_>>(), [2, 3]);
    }
}

//! Rust sources: length of functions, `unwrap()` outside tests, ignored tests.

use anyhow::{Context, Result};
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::report::Breach;
use crate::tree::Source;

const MOST_LINES: usize = 80;

pub fn check(source: &Source) -> Result<Vec<Breach>> {
    let file = syn::parse_file(&source.text).with_context(|| format!("failed to parse {}", source.path))?;
    let mut walk = Walk {
        path: &source.path,
        in_test: is_test_file(&source.path),
        breaches: Vec::new(),
    };
    walk.visit_file(&file);
    Ok(walk.breaches)
}

/// Files that are tests from their first line.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs")
}

struct Walk<'s> {
    path: &'s str,
    in_test: bool,
    breaches: Vec<Breach>,
}

impl Walk<'_> {
    fn breach(&mut self, at: Span, sentence: String) {
        self.breaches
            .push(Breach::new(self.path, at.start().line, sentence));
    }

    fn function(&mut self, sig: &syn::Signature, body: &syn::Block) {
        let (first, last) = (
            sig.fn_token.span.start().line,
            body.brace_token.span.close().end().line,
        );
        let lines = last - first + 1;
        if lines > MOST_LINES {
            let sentence = format!(
                "a function has at most {MOST_LINES} lines, `{}` {lines}: name its parts",
                sig.ident
            );
            self.breach(sig.fn_token.span, sentence);
        }
    }

    fn inside(&mut self, attrs: &[syn::Attribute], walk: impl FnOnce(&mut Self)) {
        if let Some(ignored) = attrs.iter().find(|attr| attr.path().is_ident("ignore")) {
            self.breach(
                ignored.span(),
                "a test that is ignored proves nothing: mend it or remove it".to_owned(),
            );
        }
        let before = self.in_test;
        self.in_test |= attrs.iter().any(is_test);
        walk(self);
        self.in_test = before;
    }

    fn unwrapped(&mut self, at: Span) {
        if !self.in_test {
            let sentence = "no unwrap() outside tests: return the error, or expect(\"why it cannot fail\")";
            self.breach(at, sentence.to_owned());
        }
    }

    /// `.unwrap()` among the tokens of a macro call.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(ident) if ident == "unwrap" && at > 0 && is_dot(&tokens[at - 1]) => {
                    if matches!(tokens.get(at + 1), Some(TokenTree::Group(group)) if group.stream().is_empty())
                    {
                        self.unwrapped(ident.span());
                    }
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

fn is_dot(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == '.')
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]` and the like.
fn is_test(attr: &syn::Attribute) -> bool {
    match &attr.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string().contains("test"),
        meta => meta
            .path()
            .segments
            .last()
            .is_some_and(|last| last.ident == "test"),
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.inside(&item.attrs, |walk| visit::visit_item_mod(walk, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.inside(&item.attrs, |walk| visit::visit_item_impl(walk, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        self.inside(&item.attrs, |walk| visit::visit_item_fn(walk, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        self.inside(&item.attrs, |walk| visit::visit_impl_item_fn(walk, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        self.inside(&item.attrs, |walk| visit::visit_trait_item_fn(walk, item));
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if call.method == "unwrap" && call.args.is_empty() {
            self.unwrapped(call.method.span());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text))
            .unwrap()
            .iter()
            .map(Breach::to_string)
            .collect()
    }

    #[test]
    fn a_long_function_is_refused_wherever_it_stands() {
        let body = "x();\n".repeat(MOST_LINES - 1);
        for frame in [
            "fn f() {\nBODY}",
            "impl A { fn f() {\nBODY} }",
            "trait A { fn f() {\nBODY} }",
        ] {
            let long = frame.replace("BODY", &body);
            assert!(
                found("a.rs", &long)[0].contains("at most 80 lines, `f` 81"),
                "{frame}"
            );
            assert!(
                found("a.rs", &long.replacen("x();\n", "", 1)).is_empty(),
                "{frame}"
            );
        }
        let test = format!("#[test]\nfn f() {{\n{body}}}");
        assert!(found("tests/a.rs", &test)[0].starts_with("tests/a.rs:2: "));
    }

    #[test]
    fn unwrap_is_refused_outside_tests_and_inside_macros() {
        assert!(found("a.rs", "fn f() {\n g().unwrap(); }")[0].starts_with("a.rs:2: no unwrap()"));
        assert_eq!(found("a.rs", "fn f() { p!(\"{}\", g().unwrap()); }").len(), 1);
        assert_eq!(
            found("a.rs", "fn f() { g().unwrap_or(1); g().expect(\"x\"); }").len(),
            0
        );
    }

    #[test]
    fn tests_may_unwrap() {
        for text in [
            "#[test] fn f() { g().unwrap(); }",
            "#[tokio::test] async fn f() { g().unwrap(); }",
            "#[cfg(test)] mod t { fn f() { g().unwrap(); } }",
        ] {
            assert_eq!(found("a.rs", text).len(), 0, "{text}");
        }
        assert_eq!(found("server/tests/a.rs", "fn f() { g().unwrap(); }").len(), 0);
    }

    #[test]
    fn an_ignored_test_is_refused() {
        assert!(found("a.rs", "#[test] #[ignore] fn f() {}")[0].contains("ignored proves nothing"));
    }
}

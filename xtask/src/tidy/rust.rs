//! Rules of Rust files: size, module docs, panics, tests that never run.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{File, Finding, Tree};

const FUNCTION_LINES_MAX: usize = 70;
const TEST_FUNCTION_LINES_MAX: usize = 120;
const FILE_LINES_MAX: usize = 800;
const LINE_CHARS_MAX: usize = 120;

/// How many lines above an `unwrap` the comment that justifies it may begin.
const INVARIANT_LINES: usize = 2;

pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    tree.below("", "rs").flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let mut findings = check_text(file);
    let parsed = file.text.parse::<TokenStream>().map_err(syn::Error::from);
    match parsed.and_then(|tokens| Ok((syn::parse2::<syn::File>(tokens.clone())?, tokens))) {
        Ok((syntax, tokens)) => findings.extend(check_syntax(file, &syntax, tokens)),
        Err(error) => findings.push(Finding::new(&file.path, error.span().start().line, error.to_string())),
    }
    findings
}

fn check_text(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |line, what: String| findings.push(Finding::new(&file.path, line, what));
    let count = file.text.lines().count();
    if count > FILE_LINES_MAX {
        add(count, format!("the file has {count} lines; {FILE_LINES_MAX} is the limit"));
    }
    let in_crate = file.path.starts_with("crates/") && file.path.contains("/src/");
    if in_crate && !file.text.starts_with("//!") {
        add(1, "the first line has to be a `//!` comment: what the module is responsible for".to_owned());
    }
    for (number, line) in file.lines() {
        let width = line.chars().count();
        // An address can't be broken.
        if width > LINE_CHARS_MAX && !line.contains("://") {
            add(number, format!("the line has {width} characters; {LINE_CHARS_MAX} is the limit"));
        }
    }
    findings
}

fn check_syntax(file: &File, syntax: &syn::File, tokens: TokenStream) -> Vec<Finding> {
    let mut functions = Functions::of(syntax, file.is_test());
    let mut findings = Vec::new();
    for function in functions.found.drain(..) {
        let limit = if function.in_test { TEST_FUNCTION_LINES_MAX } else { FUNCTION_LINES_MAX };
        let count = function.lines.end() + 1 - function.lines.start();
        if count > limit {
            let what = format!("`{}` has {count} lines; {limit} is the limit", function.name);
            findings.push(Finding::new(&file.path, *function.lines.start(), what));
        }
    }
    let mut panics = Panics::default();
    panics.scan(tokens);
    for line in panics.ignored {
        let what = "an ignored test proves nothing; run it or remove it";
        findings.push(Finding::new(&file.path, line, what));
    }
    let exempt = file.is_test() || file.path.starts_with("xtask/");
    for (line, call) in panics.calls.into_iter().filter(|_| !exempt) {
        if !functions.tests.iter().any(|test| test.contains(&line)) && !is_justified(file, line) {
            let what = format!("`{call}` needs an `// invariant:` comment that says why it can't fail");
            findings.push(Finding::new(&file.path, line, what));
        }
    }
    findings
}

fn is_justified(file: &File, line: usize) -> bool {
    let first = line.saturating_sub(INVARIANT_LINES);
    file.lines().any(|(number, text)| (first..=line).contains(&number) && text.contains("// invariant:"))
}

struct Function {
    name: String,
    lines: RangeInclusive<usize>,
    in_test: bool,
}

/// Every function of a file, and which lines are test code.
struct Functions {
    in_test: bool,
    found: Vec<Function>,
    tests: Vec<RangeInclusive<usize>>,
}

impl Functions {
    fn of(syntax: &syn::File, in_test: bool) -> Self {
        let in_test = in_test || is_test(&syntax.attrs);
        let mut functions = Self { in_test, found: Vec::new(), tests: Vec::new() };
        if in_test {
            functions.tests.push(0..=usize::MAX);
        }
        functions.visit_file(syntax);
        functions
    }

    fn add(&mut self, signature: &syn::Signature, block: &syn::Block, in_test: bool) {
        let lines = signature.span().start().line..=block.span().end().line;
        self.found.push(Function {
            name: signature.ident.to_string(),
            lines,
            in_test: self.in_test || in_test,
        });
    }

    /// Visits what lies inside an item, which is test code if its attributes say so.
    fn enter(&mut self, attributes: &[syn::Attribute], item: &impl Spanned, inside: impl FnOnce(&mut Self)) {
        let before = self.in_test;
        if is_test(attributes) {
            self.in_test = true;
            self.tests.push(item.span().start().line..=item.span().end().line);
        }
        inside(self);
        self.in_test = before;
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block, is_test(&item.attrs));
        self.enter(&item.attrs, item, |it| visit::visit_item_fn(it, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block, is_test(&item.attrs));
        self.enter(&item.attrs, item, |it| visit::visit_impl_item_fn(it, item));
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.add(&item.sig, block, is_test(&item.attrs));
        }
        self.enter(&item.attrs, item, |it| visit::visit_trait_item_fn(it, item));
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.enter(&item.attrs, item, |it| visit::visit_item_mod(it, item));
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.enter(&item.attrs, item, |it| visit::visit_item_impl(it, item));
    }

    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        self.enter(&item.attrs, item, |it| visit::visit_item_macro(it, item));
    }
}

/// `#[test]`, `#[tokio::test]`, `#[cfg(test)]`, `#[cfg(any(test, …))]`; not `#[cfg(not(test))]`.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let path = attribute.path();
        if path.is_ident("cfg") {
            let condition = attribute.meta.require_list().map(|list| list.tokens.clone());
            return condition
                .is_ok_and(|tokens| has_ident(tokens.clone(), "test") && !has_ident(tokens, "not"));
        }
        path.segments.last().is_some_and(|segment| segment.ident == "test")
    })
}

fn has_ident(tokens: TokenStream, name: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == name,
        TokenTree::Group(group) => has_ident(group.stream(), name),
        _ => false,
    })
}

/// Calls that may panic, and ignored tests: looked for in the tokens, because they also hide inside macros.
#[derive(Default)]
struct Panics {
    calls: Vec<(usize, String)>,
    ignored: Vec<usize>,
}

impl Panics {
    fn scan(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let (before, after) = (&tokens[..index], tokens.get(index + 1));
            match token {
                TokenTree::Ident(name) if name == "unwrap" || name == "expect" => {
                    let called = ends_with(before, &['.']) && after.is_some_and(is_arguments);
                    if called || ends_with(before, &[':', ':']) {
                        self.calls.push((name.span().start().line, name.to_string()));
                    }
                }
                TokenTree::Group(group) => {
                    if ends_with(before, &['#']) && is_ignore(group) {
                        self.ignored.push(group.span().start().line);
                    }
                    self.scan(group.stream());
                }
                _ => {}
            }
        }
    }
}

fn ends_with(tokens: &[TokenTree], marks: &[char]) -> bool {
    let last = &tokens[tokens.len().saturating_sub(marks.len())..];
    let is =
        |token: &TokenTree, mark: char| matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark);
    last.len() == marks.len() && last.iter().zip(marks).all(|(token, mark)| is(token, *mark))
}

fn is_arguments(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis)
}

/// `[ignore]`, `[ignore = "…"]`, `[cfg_attr(…, ignore)]`.
fn is_ignore(attribute: &Group) -> bool {
    let mut tokens = attribute.stream().into_iter();
    match tokens.next() {
        Some(TokenTree::Ident(name)) if name == "ignore" => true,
        Some(TokenTree::Ident(name)) if name == "cfg_attr" => has_ident(tokens.collect(), "ignore"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/a/src/b.rs";

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of(&[(path, text)])).iter().map(Finding::to_string).collect()
    }

    fn function(attributes: &str, lines: usize) -> String {
        format!("//! Doc.\n{attributes}fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_function_is_found() {
        assert_eq!(findings(PATH, &function("", 70)), [""; 0]);
        assert_eq!(
            findings(PATH, &function("", 71)),
            ["crates/a/src/b.rs:2: `long` has 71 lines; 70 is the limit"]
        );
    }

    #[test]
    fn a_test_may_be_longer() {
        assert_eq!(findings(PATH, &function("#[tokio::test]\n", 120)), [""; 0]);
        assert_eq!(findings("crates/a/tests/b.rs", &function("", 120)), [""; 0]);
        assert_eq!(findings(PATH, &function("#[test]\n", 121)).len(), 1);
        assert_eq!(findings(PATH, &function("#[cfg(not(test))]\n", 120)).len(), 1);
    }

    #[test]
    fn long_methods_are_found_in_impls_and_traits() {
        for around in ["impl A", "trait A"] {
            let body = function("", 71).replace("//! Doc.\n", "");
            assert_eq!(findings(PATH, &format!("//! Doc.\n{around} {{\n{body}}}\n")).len(), 1, "{around}");
        }
    }

    #[test]
    fn a_long_file_and_a_wide_line_are_found() {
        let long = format!("//! Doc.\n{}", "// line\n".repeat(800));
        assert_eq!(
            findings(PATH, &long),
            ["crates/a/src/b.rs:801: the file has 801 lines; 800 is the limit"]
        );
        let wide = format!("//! Doc.\n// {}\n// https://{}\n", "é".repeat(118), "a".repeat(130));
        assert_eq!(
            findings(PATH, &wide),
            ["crates/a/src/b.rs:2: the line has 121 characters; 120 is the limit"]
        );
    }

    #[test]
    fn a_module_without_a_doc_is_found_in_crates_only() {
        assert_eq!(findings(PATH, "fn a() {}\n").len(), 1);
        assert_eq!(findings("crates/a/tests/b.rs", "fn a() {}\n"), [""; 0]);
    }

    #[test]
    fn panics_are_found_also_inside_macros_and_as_paths() {
        for call in
            ["b.unwrap();", "b.expect(\"c\");", "println!(\"{}\", b.unwrap());", "b.map(Option::unwrap);"]
        {
            let text = format!("//! Doc.\nfn a() {{\n    {call}\n}}\n");
            let found = findings(PATH, &text);
            assert!(found.len() == 1 && found[0].starts_with("crates/a/src/b.rs:3: `"), "{call}: {found:?}");
            assert_eq!(findings("crates/a/src/conformance/b.rs", &text), [""; 0]);
        }
    }

    #[test]
    fn a_justified_panic_and_its_lookalikes_pass() {
        let justified = "// invariant: b was set above\n// by a.\nb.unwrap();\n";
        let lines = format!("{justified}b.unwrap_or(1);\nlet expect = 1;\nself.expect;");
        let text = format!("//! Doc.\n#[expect(dead_code, reason = \"b\")]\nfn a() {{\n{lines}\n}}\n");
        assert_eq!(findings(PATH, &text), [""; 0]);
        let far = "//! Doc.\nfn a() {\n    // invariant: no\n\n\n    b.unwrap();\n}\n";
        assert_eq!(findings(PATH, far).len(), 1);
    }

    #[test]
    fn panics_in_test_code_pass() {
        let text = "//! Doc.\n#[cfg(test)]\nmod tests {\n    fn a() {\n        b.unwrap();\n    }\n}\n";
        assert_eq!(findings(PATH, text), [""; 0]);
        assert_eq!(findings(PATH, &text.replace("cfg(test)", "cfg(unix)")).len(), 1);
    }

    #[test]
    fn an_ignored_test_is_found() {
        for attribute in ["#[ignore]", "#[ignore = \"slow\"]", "#[cfg_attr(unix, ignore)]"] {
            let text = format!("//! Doc.\n#[test]\n{attribute}\nfn a() {{}}\n");
            assert_eq!(findings(PATH, &text).len(), 1, "{attribute}");
        }
    }

    #[test]
    fn a_file_that_is_not_rust_is_found() {
        assert_eq!(findings(PATH, "//! Doc.\nfn a( {}\n").len(), 1);
    }
}

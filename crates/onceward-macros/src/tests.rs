//! What `#[derive(Job)]` and `#[durable]` refuse: each file of `tests/refused` is held against what is said of it. The
//! compiler shows the same, for it only repeats the error that it is given.

use std::path::{Path, PathBuf};

use proc_macro2::TokenStream;
use syn::{DeriveInput, Item, ItemFn, Meta, parse_quote};

#[test]
fn what_cant_be_meant_is_a_compile_error_that_says_what_to_do() {
    let files = files();
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let expected = std::fs::read_to_string(file.with_extension("said")).unwrap();
        assert_eq!(said_of(&file), expected, "{}", file.display());
    }
}

fn files() -> Vec<PathBuf> {
    let folder = std::fs::read_dir("tests/refused").unwrap();
    let mut files: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    files
}

/// The message.
fn said_of(file: &Path) -> String {
    let parsed = syn::parse_file(&std::fs::read_to_string(file).unwrap()).unwrap();
    let refused: Vec<syn::Error> = parsed.items.iter().filter_map(|item| expanded(item)?.err()).collect();
    let [error] = &refused[..] else { panic!("{} errors in {}", refused.len(), file.display()) };
    format!("{error}\n")
}

/// What the macro that is written on it makes of an item, if there is one.
fn expanded(item: &Item) -> Option<syn::Result<TokenStream>> {
    match item {
        Item::Fn(function) => durable(function),
        Item::Impl(block) => {
            let mut plain = block.clone();
            plain.attrs.clear();
            Some(crate::durable::expand_methods(&TokenStream::new(), &plain))
        }
        Item::Struct(job) if job.attrs.iter().any(|attribute| attribute.path().is_ident("derive")) => {
            let job: DeriveInput = parse_quote!(#job);
            Some(crate::job::expand(&job))
        }
        _ => None,
    }
}

fn durable(function: &ItemFn) -> Option<syn::Result<TokenStream>> {
    let at = function.attrs.iter().position(|attribute| attribute.path().is_ident("durable"))?;
    let mut plain = function.clone();
    let words = match plain.attrs.remove(at).meta {
        Meta::List(list) => list.tokens,
        _ => TokenStream::new(),
    };
    Some(crate::durable::expand(words, &plain))
}

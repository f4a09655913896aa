//! `#[derive(Job)]`: the words of `#[job(…)]`, checked by the rules that check them at run time.

use onceward_core::Kind;
use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{DeriveInput, Error, LitStr, Result};

use crate::words::{Words, checked};

/// What is asked for where nothing usable was said.
const WANTED: &str = "say what kind of job this is: #[job(kind = \"mail.welcome\")]. The name of the type is not used, \
                      because renaming the type would lose the jobs that are waiting";
const WORDS: &str =
    "kind, queue, tags, priority, max_attempts, timeout, retry, retain (each `word = …`), and at_most_once";

/// What was said.
#[derive(Default)]
struct Said {
    kind: Option<LitStr>,
    words: Words,
}

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let mut said = Said::default();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("job")) {
        attribute.parse_nested_meta(|meta| said.read(&meta))?;
    }
    let kind = said.kind.ok_or_else(|| Error::new_spanned(&input.ident, WANTED))?;
    let (name, calls) = (&input.ident, said.words.calls);
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::onceward::Job for #name #arguments #bounds {
            const KIND: &'static str = #kind;
            const OPTIONS: ::onceward::jobs::JobOptions = ::onceward::jobs::JobOptions::new() #(#calls)*;
        }
    })
}

impl Said {
    fn read(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
        self.words.note(meta, &word)?;
        if word == "kind" {
            self.kind = Some(checked(meta, |text| Kind::new(text).map(drop))?);
        } else if !self.words.read(meta, &word)? {
            return Err(meta.error(format!("this is none of the words of a job: {WORDS}")));
        }
        Ok(())
    }
}

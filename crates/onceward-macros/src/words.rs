//! The words that say how something is run, for every macro that reads them.

use core::time::Duration;

use onceward_core::job::Retry;
use onceward_core::{Queue, Tag, duration, limits};
use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::{Error, LitInt, LitStr, Result};

/// What was said, as the calls that say it at run time.
#[derive(Default)]
pub(crate) struct Words {
    pub(crate) calls: Vec<TokenStream>,
    seen: Vec<String>,
}

impl Words {
    /// Takes note of a word, which is said once.
    pub(crate) fn note(&mut self, meta: &ParseNestedMeta<'_>, word: &str) -> Result<()> {
        if self.seen.iter().any(|seen| seen == word) {
            return Err(meta.error(format!("`{word}` is said twice")));
        }
        self.seen.push(word.to_owned());
        Ok(())
    }

    /// Whether a word was said.
    pub(crate) fn has(&self, word: &str) -> bool {
        self.seen.iter().any(|seen| seen == word)
    }

    /// Reads a word; `false` if it is none of these.
    pub(crate) fn read(&mut self, meta: &ParseNestedMeta<'_>, word: &str) -> Result<bool> {
        match word {
            "queue" => {
                let queue = checked(meta, |text| Queue::new(text).map(drop))?;
                self.calls.push(quote!(.queue(#queue)));
            }
            "retry" => {
                let retry = checked(meta, |text| text.parse::<Retry>().map(drop))?;
                self.calls.push(quote!(.retry(#retry)));
            }
            "priority" => {
                let max = i64::from(limits::PRIORITY_MAX);
                let priority = i16::try_from(number(meta, -max, max)?).unwrap_or_default();
                self.calls.push(quote!(.priority(#priority)));
            }
            "max_attempts" => {
                let attempts = positive(meta, limits::ATTEMPTS_MAX)?;
                self.calls.push(quote!(.max_attempts(#attempts)));
            }
            "timeout" => {
                let span = span(meta, limits::TIMEOUT_MIN, limits::TIMEOUT_MAX)?;
                self.calls.push(quote!(.timeout(#span)));
            }
            "retain" => {
                let span = span(meta, Duration::ZERO, limits::RETAIN_MAX)?;
                self.calls.push(quote!(.retain(#span)));
            }
            "tags" => {
                let tags = tags(meta)?;
                self.calls.push(quote!(.tags(&[#(#tags),*])));
            }
            "at_most_once" => {
                bare(meta, word)?;
                self.calls.push(quote!(.at_most_once()));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Refuses a value of a word that has none.
pub(crate) fn bare(meta: &ParseNestedMeta<'_>, word: &str) -> Result<()> {
    if meta.input.peek(syn::Token![=]) {
        return Err(meta.error(format!("`{word}` has no value: leave it out, or say just `{word}`")));
    }
    Ok(())
}

/// A text that the rules accept.
pub(crate) fn checked(
    meta: &ParseNestedMeta<'_>,
    check: impl Fn(&str) -> onceward_core::Result<()>,
) -> Result<LitStr> {
    let text: LitStr = meta.value()?.parse()?;
    check(&text.value()).map_err(|error| Error::new(text.span(), error.message()))?;
    Ok(text)
}

/// A number from one on.
pub(crate) fn positive(meta: &ParseNestedMeta<'_>, max: u32) -> Result<u32> {
    number(meta, 1, i64::from(max)).map(|number| u32::try_from(number).unwrap_or_default())
}

/// Several tags, as in `tags = ["gpu", "eu"]`.
fn tags(meta: &ParseNestedMeta<'_>) -> Result<Vec<LitStr>> {
    let list;
    let value = meta.value()?;
    syn::bracketed!(list in value);
    let tags = list.parse_terminated(<LitStr as syn::parse::Parse>::parse, syn::Token![,])?;
    for tag in &tags {
        Tag::new(tag.value()).map_err(|error| Error::new(tag.span(), error.message()))?;
    }
    if tags.is_empty() || tags.len() > limits::TAGS_MAX {
        let why = format!("there are 1 to {} tags: `tags = [\"gpu\", \"eu\"]`", limits::TAGS_MAX);
        return Err(meta.error(why));
    }
    Ok(tags.into_iter().collect())
}

fn number(meta: &ParseNestedMeta<'_>, min: i64, max: i64) -> Result<i64> {
    let value = meta.value()?;
    let negative = value.parse::<Option<syn::Token![-]>>()?.is_some();
    let literal: LitInt = value.parse()?;
    let number: i64 = literal.base10_parse()?;
    let number = if negative { -number } else { number };
    if (min..=max).contains(&number) {
        return Ok(number);
    }
    Err(Error::new(literal.span(), format!("this lies between {min} and {max}, not at {number}")))
}

/// A duration like `"30s"`, as an expression.
pub(crate) fn span(meta: &ParseNestedMeta<'_>, min: Duration, max: Duration) -> Result<TokenStream> {
    let text: LitStr = meta.value()?.parse()?;
    let span = duration::parse(&text.value()).map_err(|error| Error::new(text.span(), error.message()))?;
    if span < min || span > max {
        let [min, max, is] = [min, max, span].map(duration::format);
        return Err(Error::new(text.span(), format!("this lies between {min} and {max}, not at {is}")));
    }
    let (seconds, nanos) = (span.as_secs(), span.subsec_nanos());
    Ok(quote!(::core::time::Duration::new(#seconds, #nanos)))
}

//! `#[durable]` on an `impl` block: its methods that are marked become durable functions, and what they are called on
//! is a state of the worker.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, FnArg, ImplItem, ImplItemFn, ItemImpl, Meta, Receiver, Result, ReturnType, Type,
};

use super::{Argument, Function, Said, argument, bodies, check};

pub(crate) fn expand(attribute: &TokenStream, block: &ItemImpl) -> Result<TokenStream> {
    let owner = owner(attribute, block)?;
    let (mut methods, mut outside, mut rest) = (Vec::new(), Vec::new(), block.clone());
    rest.items.retain(|item| match item {
        ImplItem::Fn(method) if mark(method).is_some() => {
            methods.push(method.clone());
            false
        }
        _ => true,
    });
    if methods.is_empty() {
        let why = "none of the methods is marked: put `#[durable]` on those that are durable functions";
        return Err(Error::new(block.impl_token.span(), why));
    }
    for method in &methods {
        let (inside, beside) = expand_method(method, &owner, &block.self_ty)?;
        rest.items.extend(inside);
        outside.push(beside);
    }
    Ok(quote! { #rest #(#outside)* })
}

/// The name of the type that the block is of.
fn owner(attribute: &TokenStream, block: &ItemImpl) -> Result<syn::Ident> {
    if !attribute.is_empty() {
        let why = "what is said of a function stands on the method, and nothing on the block";
        return Err(Error::new(attribute.span(), why));
    }
    if let Some((_, path, _)) = &block.trait_ {
        let why =
            "the methods of a trait are no durable functions: write them in an `impl` block of the type";
        return Err(Error::new(path.span(), why));
    }
    if !block.generics.params.is_empty() {
        let why =
            "a durable function has no generics: each is one function to the workers, known by its name";
        return Err(Error::new(block.generics.span(), why));
    }
    match &*block.self_ty {
        Type::Path(path) if path.qself.is_none() && path.path.get_ident().is_some() => {
            path.path.require_ident().cloned()
        }
        other => Err(Error::new(other.span(), "durable methods are those of a type of this module")),
    }
}

fn mark(method: &ImplItemFn) -> Option<&Attribute> {
    method.attrs.iter().find(|attribute| is_mark(attribute))
}

fn is_mark(attribute: &Attribute) -> bool {
    attribute.path().segments.last().is_some_and(|last| last.ident == "durable")
}

/// The functions in the block that stand for a method, and what stands beside the block.
fn expand_method(method: &ImplItemFn, owner: &syn::Ident, ty: &Type) -> Result<([ImplItem; 2], TokenStream)> {
    let words = match mark(method).map(|attribute| &attribute.meta) {
        Some(Meta::List(list)) => list.tokens.clone(),
        _ => TokenStream::new(),
    };
    let (said, signature, name) = (Said::read(words)?, &method.sig, &method.sig.ident);
    check(signature)?;
    bodies::check(&method.block)?;
    let mut inputs: Vec<&FnArg> = signature.inputs.iter().collect();
    let has_self = matches!(inputs.first(), Some(FnArg::Receiver(_)));
    if has_self && let FnArg::Receiver(receiver) = inputs.remove(0) {
        check_receiver(receiver)?;
    }
    let arguments = inputs.into_iter().map(argument).collect::<Result<Vec<Argument>>>()?;
    let ReturnType::Type(_, output) = &signature.output else {
        return Err(Error::new(name.span(), super::NOTHING_RETURNED));
    };
    let marker = format_ident!("{owner}_{name}", span = name.span());
    let (plain_name, visibility) = (format_ident!("{name}_plain", span = name.span()), &method.vis);
    let kind = said.kind(&format!("{owner}.{name}"), name.span())?;
    said.check_queue(&kind, name.span())?;
    let function = Function { said: &said, marker: &marker, kind, visibility, arguments: &arguments, output };
    let item = function.item(&quote!(#owner::#plain_name), has_self.then_some(ty));

    let own: Vec<&Argument> = arguments.iter().filter(|argument| !argument.given).collect();
    let (names, types): (Vec<_>, Vec<_>) = own.iter().map(|own| (&own.name, &own.ty)).unzip();
    let docs = method.attrs.iter().filter(|attribute| attribute.path().is_ident("doc"));
    let call = syn::parse2(quote! {
        #(#docs)*
        #[allow(clippy::too_many_arguments)]
        #visibility fn #name(#(#names: #types),*) -> ::onceward::durable::Call<#marker> {
            #marker::call_with(#(#names),*)
        }
    })?;
    let mut plain = method.clone();
    plain.sig.ident = plain_name;
    plain.attrs.retain(|attribute| !is_mark(attribute) && !attribute.path().is_ident("doc"));
    let about = "The body, as it was written: nothing is written down unless it is in a run.";
    plain.attrs.push(syn::parse_quote!(#[doc = #about]));
    plain.attrs.push(syn::parse_quote!(#[allow(missing_docs, clippy::missing_errors_doc)]));
    Ok(([call, ImplItem::Fn(plain)], item))
}

/// A method is called on the worker's state, which it shares with others.
fn check_receiver(receiver: &Receiver) -> Result<()> {
    if receiver.reference.is_some() && receiver.mutability.is_none() && receiver.colon_token.is_none() {
        return Ok(());
    }
    let why = "a durable method takes `&self`, a state that the worker was given and that others use at the same time";
    Err(Error::new(receiver.span(), why))
}

//! `#[durable]`: an `async fn` becomes a function that makes a call, with its body beside it.

mod bodies;
mod methods;

use onceward_core::job::limit::CONCURRENCY_MAX;
use onceward_core::{Kind, Queue, limits};
use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{Error, Expr, FnArg, ItemFn, LitStr, Pat, PatType, Path, Result, ReturnType, Type};

pub(crate) use methods::expand as expand_methods;

use crate::words::{Words, bare, positive, span};

const WORDS: &str = "name, version, queue, tags, priority, max_attempts, max_concurrent, timeout, retry, retain, \
                     retry_if, cached, key (each `word = …`), at_most_once and idempotent";

const NOTHING_RETURNED: &str = "a durable function returns `Result<T, E>`: `E` is how it fails, \
                                `onceward::durable::AnyError` if nobody needs to tell its errors apart";

/// How many arguments a function has at most that are written down: as many as `DurableFn` knows.
const ARGUMENTS_MAX: usize = 8;

/// What was said.
#[derive(Default)]
struct Said {
    name: Option<LitStr>,
    version: Option<LitStr>,
    retry_if: Option<Path>,
    /// For how long a result is kept for later calls.
    remembers: Option<TokenStream>,
    /// Which calls have the same result.
    key: Option<Expr>,
    /// How many of its runs are worked on at the same time.
    most: Option<u32>,
    words: Words,
}

/// An argument, and whether the worker gives it.
struct Argument {
    name: syn::Ident,
    ty: Type,
    given: bool,
}

pub(crate) fn expand(attribute: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let said = Said::read(attribute)?;
    check(&function.sig)?;
    bodies::check(&function.block)?;
    let arguments = function.sig.inputs.iter().map(argument).collect::<Result<Vec<_>>>()?;
    let ReturnType::Type(_, output) = &function.sig.output else {
        return Err(Error::new(function.sig.ident.span(), NOTHING_RETURNED));
    };
    let (name, visibility, documented) = (&function.sig.ident, &function.vis, docs(function));
    let (others, body, plain) = (others(function), &function.block, plain_signature(function));
    let own: Vec<&Argument> = arguments.iter().filter(|argument| !argument.given).collect();
    let (names, types): (Vec<_>, Vec<_>) = own.iter().map(|own| (&own.name, &own.ty)).unzip();
    let kind = said.kind(&name.to_string(), name.span())?;
    said.check_queue(&kind, name.span())?;
    let function = Function { said: &said, marker: name, kind, visibility, arguments: &arguments, output };
    let item = function.item(&quote!(#name::plain), None);
    Ok(quote! {
        #(#documented)*
        #visibility fn #name(#(#names: #types),*) -> ::onceward::durable::Call<#name> {
            #name::call_with(#(#names),*)
        }

        #[allow(unreachable_pub, missing_docs, clippy::missing_errors_doc, clippy::too_many_arguments)]
        impl #name {
            /// The body, as it was written: nothing is written down unless it is in a run.
            #(#others)*
            pub #plain #body
        }

        #item
    })
}

/// A durable function as the engine knows it.
struct Function<'a> {
    said: &'a Said,
    /// The type that stands for it.
    marker: &'a syn::Ident,
    kind: String,
    visibility: &'a syn::Visibility,
    arguments: &'a [Argument],
    output: &'a Type,
}

impl Function<'_> {
    /// The type that stands for the function, and its arguments. `plain` is its body, which may want a state first.
    fn item(&self, plain: &TokenStream, this: Option<&Type>) -> TokenStream {
        let (marker, visibility) = (self.marker, self.visibility);
        let own: Vec<&Argument> = self.arguments.iter().filter(|argument| !argument.given).collect();
        let (names, types): (Vec<_>, Vec<_>) = own.iter().map(|own| (&own.name, &own.ty)).unzip();
        let durable = durable(self, plain, this);
        quote! {
            #[doc(hidden)]
            #[allow(non_camel_case_types, missing_docs, missing_debug_implementations, unreachable_pub)]
            #visibility struct #marker {}

            const _: () = {
                #[derive(
                    ::onceward::durable::private::serde::Serialize,
                    ::onceward::durable::private::serde::Deserialize
                )]
                #[serde(crate = "::onceward::durable::private::serde")]
                #[allow(unreachable_pub, missing_docs, missing_debug_implementations)]
                pub struct Args {
                    #(#names: #types,)*
                }

                impl #marker {
                    #[allow(clippy::too_many_arguments)]
                    fn call_with(#(#names: #types),*) -> ::onceward::durable::Call<#marker> {
                        ::onceward::durable::Call::new(&Args { #(#names),* })
                    }
                }

                #durable
            };
        }
    }
}

/// What the engine knows of the function.
fn durable(function: &Function<'_>, plain: &TokenStream, this: Option<&Type>) -> TokenStream {
    let Function { said, marker, kind, arguments, output, .. } = function;
    let calls = &said.words.calls;
    let remembers = said.remembers.as_ref().map(|span| {
        quote!(const REMEMBERS: ::core::option::Option<::core::time::Duration> = ::core::option::Option::Some(#span);)
    });
    let (own_queue, most) = said.own_queue(kind);
    let key = said.key();
    let state = this.map(|ty| quote!(::onceward::worker::State<#ty>));
    let state: Vec<_> = state.into_iter().collect();
    let receiver = state.first().map(|_| quote!(&this,));
    let given: Vec<&Argument> = arguments.iter().filter(|argument| argument.given).collect();
    let (names, types): (Vec<_>, Vec<_>) = given.iter().map(|given| (&given.name, &given.ty)).unzip();
    let in_order = arguments.iter().map(|argument| {
        let name = &argument.name;
        if argument.given { quote!(#name) } else { quote!(args.#name) }
    });
    let transient = said.retry_if.as_ref().map(|rule| {
        quote! {
            fn is_transient(error: &Self::Error) -> bool {
                #rule(error)
            }
        }
    });
    quote! {
        impl ::onceward::durable::Durable for #marker {
            const KIND: &'static str = #kind;
            const OPTIONS: ::onceward::jobs::JobOptions = ::onceward::jobs::JobOptions::new() #(#calls)* #own_queue;
            #remembers
            #most
            type Args = Args;
            type Value = <#output as ::onceward::durable::DurableResult>::Value;
            type Error = <#output as ::onceward::durable::DurableResult>::Error;

            #[allow(unused_variables)]
            fn call(
                args: Args,
                context: &::onceward::worker::JobContext,
            ) -> ::onceward::Result<
                ::onceward::durable::private::BoxFuture<'static, ::core::result::Result<Self::Value, Self::Error>>,
            > {
                #(let this = <#state as ::onceward::worker::FromContext>::from_context(context)?;)*
                #(let #names = <#types as ::onceward::worker::FromContext>::from_context(context)?;)*
                ::core::result::Result::Ok(::std::boxed::Box::pin(async move {
                    ::onceward::durable::DurableResult::into_result(#plain(#receiver #(#in_order),*).await)
                }))
            }

            fn needs() -> ::std::vec::Vec<(::core::any::TypeId, &'static str)> {
                let needs: [::core::option::Option<(::core::any::TypeId, &'static str)>; _] =
                    [#(<#state as ::onceward::worker::FromContext>::needs(),)*
                     #(<#types as ::onceward::worker::FromContext>::needs()),*];
                ::core::iter::IntoIterator::into_iter(needs).flatten().collect()
            }

            #transient

            #key
        }
    }
}

/// The queue of a function that has one of its own, whatever its version.
fn queue_of(kind: &str) -> &str {
    kind.split_once('@').map_or(kind, |(name, _)| name)
}

/// Refuses what can't be meant.
fn check(signature: &syn::Signature) -> Result<()> {
    let refuse = |span, why: &str| Err(Error::new(span, why));
    if signature.asyncness.is_none() {
        return refuse(signature.fn_token.span(), "a durable function is an `async fn`");
    }
    if !signature.generics.params.is_empty() {
        let why =
            "a durable function has no generics: each is one function to the workers, known by its name";
        return refuse(signature.generics.span(), why);
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic.span(), "a durable function has a fixed number of arguments");
    }
    let is_own = |input: &&FnArg| matches!(input, FnArg::Typed(typed) if !is_given(&typed.ty));
    if let Some(ninth) = signature.inputs.iter().filter(is_own).nth(ARGUMENTS_MAX) {
        let why = "a durable function has at most eight arguments, besides those that the worker gives: put some of \
                   them into a struct";
        return refuse(ninth.span(), why);
    }
    Ok(())
}

/// Whether the worker gives an argument of this type.
fn is_given(ty: &Type) -> bool {
    let is_state = |path: &syn::TypePath| path.path.segments.last().is_some_and(|last| last.ident == "State");
    matches!(ty, Type::Path(path) if is_state(path))
}

fn argument(argument: &FnArg) -> Result<Argument> {
    let PatType { pat, ty, .. } = match argument {
        FnArg::Typed(typed) => typed,
        FnArg::Receiver(receiver) => {
            let why = "a durable function has no `self`: what it needs of the worker is an argument `State<T>`; of a \
                       method, `#[durable]` stands on the `impl` block as well";
            return Err(Error::new(receiver.span(), why));
        }
    };
    let Pat::Ident(name) = &**pat else {
        return Err(Error::new(
            pat.span(),
            "an argument of a durable function has a name: it stands in the journal",
        ));
    };
    if let Type::Reference(reference) = &**ty {
        let why = "an argument of a durable function is written down, and may be read by another process: take it by \
                   value, a `String` for a `&str`";
        return Err(Error::new(reference.span(), why));
    }
    Ok(Argument { name: name.ident.clone(), ty: (**ty).clone(), given: is_given(ty) })
}

fn docs(function: &ItemFn) -> Vec<&syn::Attribute> {
    function.attrs.iter().filter(|attribute| attribute.path().is_ident("doc")).collect()
}

fn others(function: &ItemFn) -> Vec<&syn::Attribute> {
    function.attrs.iter().filter(|attribute| !attribute.path().is_ident("doc")).collect()
}

/// The signature of the body.
fn plain_signature(function: &ItemFn) -> syn::Signature {
    let mut signature = function.sig.clone();
    signature.ident = format_ident!("plain", span = function.sig.ident.span());
    signature
}

impl Said {
    fn read(attribute: TokenStream) -> Result<Self> {
        let mut said = Self::default();
        let parser = syn::meta::parser(|meta| {
            let word = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            said.words.note(&meta, &word)?;
            match word.as_str() {
                "name" => said.name = Some(meta.value()?.parse()?),
                "version" => said.version = Some(meta.value()?.parse()?),
                "retry_if" => said.retry_if = Some(meta.value()?.parse()?),
                "idempotent" => {
                    bare(&meta, &word)?;
                    said.remembers = Some(quote!(::onceward::durable::IDEMPOTENT));
                }
                "cached" => said.remembers = Some(span(&meta, limits::RETAIN_MIN, limits::RETAIN_MAX)?),
                "key" => said.key = Some(meta.value()?.parse()?),
                "max_concurrent" => said.most = Some(positive(&meta, CONCURRENCY_MAX)?),
                _ if said.words.read(&meta, &word)? => {}
                _ => {
                    return Err(
                        meta.error(format!("this is none of the words of a durable function: {WORDS}"))
                    );
                }
            }
            said.check_remembers(&meta)
        });
        parser.parse2(attribute)?;
        if let (Some(key), None) = (&said.key, &said.remembers) {
            let why = "`key` says which calls have one result: it goes with `idempotent` or `cached`";
            return Err(Error::new(key.span(), why));
        }
        Ok(said)
    }

    /// Refuses what does not go together.
    fn check_remembers(&self, meta: &syn::meta::ParseNestedMeta<'_>) -> Result<()> {
        let has = |word| self.words.has(word);
        if has("idempotent") && has("cached") {
            return Err(meta.error(
                "`idempotent` keeps a result for 30 days, and `cached` for as long as it says: say one of the two",
            ));
        }
        if has("at_most_once") && (has("idempotent") || has("cached")) {
            return Err(meta.error(
                "a run nobody knows the end of would let the next one with the same arguments begin: what may happen \
                 once at most belongs into a step, `step(…).at_most_once()`",
            ));
        }
        Ok(())
    }

    /// Where it waits if its runs are limited, and to how many.
    fn own_queue(&self, kind: &str) -> (Option<TokenStream>, Option<TokenStream>) {
        let Some(most) = self.most else { return (None, None) };
        let queue = queue_of(kind);
        let most = quote! {
            const MAX_CONCURRENT: ::core::option::Option<u32> = ::core::option::Option::Some(#most);
        };
        (Some(quote!(.queue(#queue))), Some(most))
    }

    /// What calls have in common that have one result.
    fn key(&self) -> Option<TokenStream> {
        let key = self.key.as_ref()?;
        Some(quote! {
            fn key(args: &Args) -> ::core::option::Option<::std::string::String> {
                let key: fn(&Args) -> _ = #key;
                ::core::option::Option::Some(::std::string::ToString::to_string(&key(args)))
            }
        })
    }

    /// Refuses a queue of its own that can't be one.
    fn check_queue(&self, kind: &str, at: proc_macro2::Span) -> Result<()> {
        if self.most.is_none() {
            return Ok(());
        }
        let at = self.name.as_ref().map_or(at, LitStr::span);
        if self.words.has("queue") {
            let why = "a function with `max_concurrent` waits in a queue of its own, of its name; to limit several \
                       together, leave it out, name a `queue`, and limit that";
            return Err(Error::new(at, why));
        }
        Queue::new(queue_of(kind)).map(drop).map_err(|error| Error::new(at, error.message()))
    }

    /// What the function is called in the store: a version of its own is another kind of job, which only workers take
    /// that know it.
    fn kind(&self, ident: &str, at: proc_macro2::Span) -> Result<String> {
        let name = self.name.as_ref().map_or_else(|| ident.to_owned(), LitStr::value);
        let kind = match &self.version {
            Some(version) => format!("{name}@{}", version.value()),
            None => name,
        };
        let span = self.name.as_ref().or(self.version.as_ref()).map_or(at, LitStr::span);
        Kind::new(&kind).map_err(|error| {
            Error::new(span, format!("{} (1 to {} bytes)", error.message(), limits::KIND_BYTES_MAX))
        })?;
        Ok(kind)
    }
}

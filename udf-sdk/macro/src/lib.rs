//! The attribute of the plugin SDK; see the crate `thalweg-udf`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt as _;
use syn::spanned::Spanned as _;
use syn::{Error, Expr, ExprLit, FnArg, ItemFn, Lit, Meta, Pat, ReturnType, Type};

/// Most characters of a name.
const NAME_MAX: usize = 63;

/// Makes a plain function callable from the expressions of a job, under its own name.
///
/// What it may take and return, and what becomes of nulls and errors, is said in the documentation
/// of the crate `thalweg-udf`.
#[proc_macro_attribute]
pub fn scalar(
    attribute: proc_macro::TokenStream,
    item: proc_macro::TokenStream,
) -> proc_macro::TokenStream {
    let item = TokenStream::from(item);
    let made = expand(&TokenStream::from(attribute), item.clone());
    // The function itself stays in either case, so that its users do not fail as well.
    made.unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote! { #item #error }
    })
    .into()
}

fn expand(attribute: &TokenStream, item: TokenStream) -> Result<TokenStream, Error> {
    if !attribute.is_empty() {
        return Err(Error::new(attribute.span(), "`scalar` takes no arguments"));
    }
    let function: ItemFn = syn::parse2(item)?;
    check(&function)?;
    let mut names = Vec::new();
    let mut types = Vec::new();
    for input in &function.sig.inputs {
        let (name, argument) = parameter(input)?;
        names.push(name);
        types.push(argument);
    }
    let ident = &function.sig.ident;
    let name = ident.unraw().to_string();
    named(&name, ident.span())?;
    let result = match &function.sig.output {
        ReturnType::Type(_, result) => (**result).clone(),
        ReturnType::Default => {
            return Err(Error::new(
                function.sig.span(),
                "a plugin function returns a value",
            ));
        }
    };
    let doc = documentation(&function);
    let count = names.len();
    let columns: Vec<_> = (0..count).map(|at| format_ident!("column_{at}")).collect();
    let readers: Vec<_> = (0..count).map(|at| format_ident!("reader_{at}")).collect();
    Ok(quote! {
        #function

        // Paths are written out: the names here must not hide those of the function's own types.
        const _: () = {
            fn call(
                arguments: &[::thalweg_udf::Column],
                rows: usize,
            ) -> ::core::result::Result<::thalweg_udf::Returned, ::thalweg_udf::Failure> {
                let [#(#columns),*] = arguments else {
                    return ::core::result::Result::Err(::thalweg_udf::function::wrong_count(
                        #name, #count, arguments.len(),
                    ));
                };
                #(let #readers = <#types as ::thalweg_udf::Argument>::open(#columns, rows)?;)*
                let strict: &[(&::thalweg_udf::Column, bool)] =
                    &[#((#columns, <#types as ::thalweg_udf::Argument>::NULLABLE)),*];
                let mut out = ::thalweg_udf::function::Builder::new::<#result>(rows);
                match ::thalweg_udf::function::strict(strict, rows)? {
                    ::core::option::Option::None => {
                        for row in 0..rows {
                            let result = #ident(
                                #(<#types as ::thalweg_udf::Argument>::get(&#readers, row)),*
                            );
                            ::thalweg_udf::Output::push(result, row, &mut out);
                        }
                    }
                    ::core::option::Option::Some(strict) => {
                        for row in 0..rows {
                            if strict[row] == 0 {
                                out.null::<#result>(row);
                                continue;
                            }
                            let result = #ident(
                                #(<#types as ::thalweg_udf::Argument>::get(&#readers, row)),*
                            );
                            ::thalweg_udf::Output::push(result, row, &mut out);
                        }
                    }
                }
                ::core::result::Result::Ok(out.finish())
            }

            static FUNCTION: ::thalweg_udf::function::Function =
                ::thalweg_udf::function::Function {
                    name: #name,
                    doc: #doc,
                    parameters: &[#(::thalweg_udf::function::Parameter {
                        name: #names,
                        kind: <#types as ::thalweg_udf::Argument>::TYPE,
                    }),*],
                    result: <#result as ::thalweg_udf::Output>::TYPE,
                    call,
                };

            extern "C" fn register() {
                ::thalweg_udf::function::register(&FUNCTION);
            }

            // Functions in this section run before anything else, in a guest as on Linux.
            #[cfg(any(target_arch = "wasm32", target_os = "linux"))]
            #[allow(unsafe_code)]
            #[used]
            #[unsafe(link_section = ".init_array")]
            static REGISTER: extern "C" fn() = register;
            #[cfg(not(any(target_arch = "wasm32", target_os = "linux")))]
            const _: extern "C" fn() = register;
        };
    })
}

fn check(function: &ItemFn) -> Result<(), Error> {
    let signature = &function.sig;
    let refused = [
        (signature.asyncness.map(|t| t.span()), "async"),
        (signature.unsafety.map(|t| t.span()), "unsafe"),
        (signature.variadic.as_ref().map(|t| t.span()), "variadic"),
    ];
    for (span, what) in refused {
        if let Some(span) = span {
            return Err(Error::new(span, format!("a plugin function is not {what}")));
        }
    }
    if !signature.generics.params.is_empty() {
        let span = signature.generics.span();
        return Err(Error::new(
            span,
            "a plugin function has no generic parameters",
        ));
    }
    Ok(())
}

fn parameter(input: &FnArg) -> Result<(String, Type), Error> {
    let FnArg::Typed(typed) = input else {
        return Err(Error::new(input.span(), "a plugin function is no method"));
    };
    let Pat::Ident(pattern) = &*typed.pat else {
        return Err(Error::new(
            typed.pat.span(),
            "an argument of a plugin function has a name",
        ));
    };
    let name = pattern.ident.unraw().to_string();
    let name = name.trim_start_matches('_').to_owned();
    named(&name, pattern.ident.span())?;
    Ok((name, (*typed.ty).clone()))
}

/// Names that SQL takes without quotes, in one case.
fn named(name: &str, span: proc_macro2::Span) -> Result<(), Error> {
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|c| c.is_ascii_lowercase());
    let rest = letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if first && rest && name.len() <= NAME_MAX {
        return Ok(());
    }
    let message = format!(
        "`{name}` cannot be the name of a plugin function or argument: \
         it is a letter and up to 62 letters, digits and underscores, in lower case"
    );
    Err(Error::new(span, message))
}

fn documentation(function: &ItemFn) -> String {
    let mut lines = Vec::new();
    for attribute in &function.attrs {
        if let Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let Expr::Lit(ExprLit {
                lit: Lit::Str(text),
                ..
            }) = &meta.value
        {
            lines.push(text.value().trim().to_owned());
        }
    }
    lines.join("\n")
}

//! The `#[plugin]` attribute of netloom-sdk, which documents it.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{format_ident, quote, quote_spanned};
use syn::{DeriveInput, Ident, Token, parse_macro_input, punctuated::Punctuated, spanned::Spanned};

/// The hooks by their names in the attribute: also the SDK's modules of generated bindings.
const HOOKS: [(&str, &str); 4] = [
    ("attach_order", "AttachOrder"),
    ("datapath_mode", "DatapathMode"),
    ("socket_reap", "SocketReap"),
    ("lifecycle", "Lifecycle"),
];

/// Makes a type the plugin of its crate: the component exports the hooks named, each of which the type
/// implements as the trait of that name.
///
/// See the documentation of `netloom_sdk::plugin`.
#[proc_macro_attribute]
pub fn plugin(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let hooks = parse_macro_input!(arguments with Punctuated::<Ident, Token![,]>::parse_terminated);
    let item = parse_macro_input!(item as DeriveInput);
    expand(hooks, &item)
        .unwrap_or_else(|error| {
            let error = error.to_compile_error();
            quote!(#item #error)
        })
        .into()
}

fn expand(hooks: Punctuated<Ident, Token![,]>, item: &DeriveInput) -> syn::Result<Tokens> {
    if hooks.is_empty() {
        return Err(syn::Error::new(
            item.ident.span(),
            format!("name the hooks the plugin serves, such as #[plugin(attach_order)]: {}", known_hooks()),
        ));
    }
    if !item.generics.params.is_empty() {
        return Err(syn::Error::new(item.generics.span(), "a plugin is one type: it cannot be generic"));
    }

    let plugin = &item.ident;
    let mut seen = Vec::new();
    let mut checks = Tokens::new();
    let mut exports = Tokens::new();
    for hook in hooks {
        let name = hook.to_string();
        let Some((module, hook_trait)) = HOOKS.iter().find(|(known, _)| *known == name) else {
            let message = format!("there is no hook {name:?}; the hooks are {}", known_hooks());
            return Err(syn::Error::new(hook.span(), message));
        };
        if seen.contains(&name) {
            return Err(syn::Error::new(hook.span(), format!("{name} is named twice")));
        }
        seen.push(name);

        let hook_trait = Ident::new(hook_trait, hook.span());
        let export = format_ident!("export_{module}");
        let module = format_ident!("{module}");
        checks.extend(quote_spanned! {hook.span()=>
            fn #module<T: ::core::default::Default + ::netloom_sdk::#hook_trait>() -> T {
                T::default()
            }
            let _: fn() -> #plugin = #module::<#plugin>;
        });
        exports.extend(quote! {
            ::netloom_sdk::__private::#export!(
                Component with_types_in ::netloom_sdk::__private::#module
            );
        });
    }

    Ok(quote! {
        #item

        const _: () = { #checks };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            ::std::thread_local! {
                static INSTANCE: ::core::cell::RefCell<#plugin> =
                    ::core::cell::RefCell::new(::netloom_sdk::__private::create());
            }

            impl ::netloom_sdk::__private::Instance for #plugin {
                fn with<R>(act: impl ::core::ops::FnOnce(&mut Self) -> R) -> R {
                    INSTANCE.with_borrow_mut(act)
                }
            }

            type Component = ::netloom_sdk::__private::Exported<#plugin>;
            #exports
        };
    })
}

fn known_hooks() -> String {
    HOOKS.map(|(name, _)| name).join(", ")
}

#[cfg(test)]
mod tests {
    use syn::{parse::Parser as _, parse_quote};

    use super::*;

    fn error(hooks: Tokens, item: &DeriveInput) -> String {
        let hooks = Punctuated::parse_terminated.parse2(hooks).unwrap();
        expand(hooks, item).unwrap_err().to_string()
    }

    #[test]
    fn a_mistake_is_answered_with_what_would_be_right() {
        let plain = parse_quote!(
            struct Plugin;
        );
        let generic = parse_quote!(
            struct Plugin<T>(T);
        );
        let cases = [
            (quote!(), &plain, "name the hooks the plugin serves, such as #[plugin(attach_order)]"),
            (quote!(order), &plain, "there is no hook \"order\"; the hooks are attach_order, datapath_mode"),
            (quote!(lifecycle, lifecycle), &plain, "lifecycle is named twice"),
            (quote!(lifecycle), &generic, "it cannot be generic"),
        ];
        for (hooks, item, wanted) in cases {
            let error = error(hooks.clone(), item);
            assert!(error.contains(wanted), "#[plugin({hooks})]: {error}");
        }
    }

    #[test]
    fn each_hook_is_exported_once_and_its_trait_asked_for() {
        let hooks = Punctuated::parse_terminated.parse2(quote!(attach_order, lifecycle)).unwrap();
        let item = parse_quote!(
            struct Plugin;
        );
        let text = expand(hooks, &item).unwrap().to_string();
        for (part, count) in [
            ("export_attach_order", 1),
            ("export_lifecycle", 1),
            ("export_socket_reap", 0),
            (":: AttachOrder", 1),
            (":: Lifecycle", 1),
        ] {
            assert_eq!(text.matches(part).count(), count, "{part} in {text}");
        }
    }
}

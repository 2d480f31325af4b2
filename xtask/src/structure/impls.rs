//! Types with methods in another top-level module than the one that defines them. Implementations of traits may be
//! anywhere.

use std::collections::BTreeMap;

use syn::{Item, Type, spanned::Spanned as _};

use super::{
    exceptions::{self, AllowedImpls},
    modules::Crate,
};

/// An `impl TYPE` away from the type.
struct Impl {
    /// With the path of the module that defines it.
    of: String,
    /// The top-level module that it is in.
    module: String,
    place: String,
}

/// What is wrong with the places of a crate's methods, and with what the list says of them.
pub(super) fn check(krate: &Crate, allowed: &[AllowedImpls]) -> Vec<String> {
    let impls = away(krate);
    let allowed: Vec<_> = allowed.iter().filter(|allowed| allowed.krate == krate.name).collect();
    let mut new = BTreeMap::new();
    for found in &impls {
        if !allowed.iter().any(|allowed| allowed.of == found.of && allowed.modules.contains(&found.module)) {
            new.entry((&found.of, &found.module)).or_insert(&found.place);
        }
    }
    let new = new.into_iter().map(|((of, module), place)| {
        format!("{place}: methods of {of} in {module}; they belong to where the type is, or are functions")
    });
    let stale = allowed.iter().flat_map(|AllowedImpls { krate, of, modules, .. }| {
        let gone = modules
            .iter()
            .filter(|module| !impls.iter().any(|found| found.of == *of && found.module == **module));
        gone.map(move |module| exceptions::stale(&format!("{module} in host/{krate} has no methods of {of}")))
    });
    new.chain(stale).collect()
}

fn away(krate: &Crate) -> Vec<Impl> {
    let mut found = Vec::new();
    for (at, module) in &krate.modules {
        for item in &module.items {
            let Item::Impl(item) = item else { continue };
            let (None, Type::Path(of)) = (&item.trait_, &*item.self_ty) else { continue };
            let path: Vec<_> = of.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let Some((home, name)) = krate.defined(at, &path) else { continue };
            if home.first() != at.first() {
                found.push(Impl {
                    of: [home.as_slice(), &[name]].concat().join("::"),
                    module: at.first().map_or("crate", String::as_str).to_owned(),
                    place: format!("{}:{}", module.file, item.impl_token.span().start().line),
                });
            }
        }
    }
    found
}

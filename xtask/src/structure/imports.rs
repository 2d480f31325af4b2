//! Every import between the modules of a crate: in a `use`, in a path that is written out, in a macro's arguments.

use proc_macro2::TokenStream;
use syn::{
    Ident, ImplItemFn, Item, ItemUse, Macro, MetaList, Path, Token, Visibility,
    ext::IdentExt,
    parse::{ParseStream, Parser},
    visit::{self, Visit},
};

use super::modules::{self, Crate, ModulePath};

/// A module names another one, or something in it.
pub(super) struct Import {
    pub(super) from: ModulePath,
    pub(super) to: ModulePath,
    /// `FILE:LINE`.
    pub(super) place: String,
}

/// All imports within a crate.
pub(super) fn of(krate: &Crate) -> Vec<Import> {
    let of_module = |(from, module): (&ModulePath, &modules::Module)| {
        let mut paths = Paths::default();
        module.items.iter().for_each(|item| paths.visit_item(item));
        let imports = paths.0.into_iter().filter_map(|(path, line)| {
            let (to, place) = (krate.imported(from, &path)?, format!("{}:{line}", module.file));
            Some(Import { from: from.clone(), to, place })
        });
        imports.collect::<Vec<_>>()
    };
    krate.modules.iter().flat_map(of_module).collect()
}

/// Paths that may lead out of a module, each with its line.
#[derive(Default)]
struct Paths(Vec<(Vec<String>, usize)>);

impl Paths {
    fn add<'a>(&mut self, segments: impl Iterator<Item = &'a Ident>) {
        let segments: Vec<_> = segments.collect();
        let [first, _, ..] = segments.as_slice() else { return };
        // Any other begins with an import that was seen already, or with another crate.
        if matches!(first.to_string().as_str(), "crate" | "self" | "super") {
            self.0.push((segments.iter().map(ToString::to_string).collect(), first.span().start().line));
        }
    }

    /// Those among tokens, of which nobody knows what they will be.
    fn add_tokens(&mut self, tokens: TokenStream) {
        let read = |input: ParseStream<'_>| {
            while !input.is_empty() {
                if input.peek(Ident::peek_any) {
                    let mut segments = vec![input.call(Ident::parse_any)?];
                    while input.peek(Token![::]) && input.peek3(Ident::peek_any) {
                        input.parse::<Token![::]>()?;
                        segments.push(input.call(Ident::parse_any)?);
                    }
                    self.add(segments.iter());
                } else if let proc_macro2::TokenTree::Group(group) = input.parse()? {
                    self.add_tokens(group.stream());
                }
            }
            Ok(())
        };
        // Every token is taken, whatever it is.
        read.parse2(tokens).ok();
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast Item) {
        // A module has imports of its own.
        if !matches!(item, Item::Mod(_)) && !modules::is_for_tests(modules::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !modules::is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.0.extend(modules::uses(item).into_iter().map(|used| (used.path, used.line)));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.add(path.segments.iter().map(|segment| &segment.ident));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.add_tokens(call.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast MetaList) {
        self.add_tokens(list.tokens.clone());
    }

    /// `pub(in …)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

//! The modules of a crate, read from its sources along its `mod` items. What is compiled for tests only is left out.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
};

use anyhow::{Context, Result, anyhow};
use syn::{
    Attribute, Ident, Item, ItemConst, ItemEnum, ItemExternCrate, ItemForeignMod, ItemImpl, ItemMacro,
    ItemMod, ItemStatic, ItemStruct, ItemTrait, ItemTraitAlias, ItemType, ItemUnion, ItemUse, UseTree,
    Visibility,
};

/// Where a module is: `["datapath", "pins"]`. The crate's root is empty.
pub(super) type ModulePath = Vec<String>;

/// A crate, by its modules.
pub(super) struct Crate {
    /// The name of its folder.
    pub(super) name: String,
    /// The root is among them.
    pub(super) modules: BTreeMap<ModulePath, Module>,
}

/// A module without its submodules.
pub(super) struct Module {
    /// The file that it is in, from the workspace's root.
    pub(super) file: String,
    /// Everything in it but other modules, and what is for tests.
    pub(super) items: Vec<Item>,
    /// The names of its items.
    pub(super) names: HashSet<String>,
    /// What it imports.
    pub(super) uses: Vec<Use>,
}

/// One name of a `use`, or all names of a module.
pub(super) struct Use {
    /// What is imported, as it is written there.
    pub(super) path: Vec<String>,
    /// What it is called here; nothing if the path ends with `*`.
    pub(super) name: Option<String>,
    /// Whether others can import it from here.
    pub(super) is_exported: bool,
    /// Where it says so in the file.
    pub(super) line: usize,
}

impl Crate {
    /// Reads a crate in a folder of the workspace; of one that has both a library and a program, the library.
    ///
    /// # Errors
    /// If a source is missing or is no Rust.
    pub(super) fn read(workspace: &Path, folder: &str) -> Result<Self> {
        let name = folder.rsplit('/').next().unwrap_or(folder).to_owned();
        let mut krate = Self { name, modules: BTreeMap::new() };
        let source = format!("{folder}/src");
        let reader = Reader { workspace, source: &source };
        let roots = ["lib.rs", "main.rs"].map(|file| format!("{source}/{file}"));
        let items = reader.first(&roots)?;
        reader.add(&mut krate, Vec::new(), items)?;
        Ok(krate)
    }
}

struct Reader<'a> {
    workspace: &'a Path,
    /// The folder of the crate's sources, from the workspace's root.
    source: &'a str,
}

impl Reader<'_> {
    fn add(&self, krate: &mut Crate, path: ModulePath, (file, items): (String, Vec<Item>)) -> Result<()> {
        let mut module = Module { file, items: Vec::new(), names: HashSet::new(), uses: Vec::new() };
        for item in items.into_iter().filter(|item| !is_for_tests(attributes(item))) {
            module.names.extend(name(&item).map(ToString::to_string));
            match item {
                Item::Mod(item) => {
                    let child = [path.as_slice(), &[item.ident.to_string()]].concat();
                    let content = match item.content {
                        Some((_, items)) => (module.file.clone(), items),
                        None => {
                            let stem = format!("{}/{}", self.source, child.join("/"));
                            self.first(&[format!("{stem}.rs"), format!("{stem}/mod.rs")])?
                        }
                    };
                    self.add(krate, child, content)?;
                }
                item => {
                    if let Item::Use(item) = &item {
                        module.uses.extend(uses(item));
                    }
                    module.items.push(item);
                }
            }
        }
        krate.modules.insert(path, module);
        Ok(())
    }

    /// The first of these files that is there.
    fn first(&self, files: &[String]) -> Result<(String, Vec<Item>)> {
        let found = files.iter().find(|file| self.workspace.join(file).is_file());
        let file = found.ok_or_else(|| anyhow!("there is no {}", files.join(" and no ")))?;
        let text =
            fs::read_to_string(self.workspace.join(file)).with_context(|| format!("reading {file}"))?;
        let parsed = syn::parse_file(&text)
            .with_context(|| format!("{file} cannot be understood; does `cargo check` accept it?"))?;
        Ok((file.clone(), parsed.items))
    }
}

/// Whether an item has `#[cfg(test)]`.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(ItemConst { attrs, .. })
        | Item::Enum(ItemEnum { attrs, .. })
        | Item::ExternCrate(ItemExternCrate { attrs, .. })
        | Item::Fn(syn::ItemFn { attrs, .. })
        | Item::ForeignMod(ItemForeignMod { attrs, .. })
        | Item::Impl(ItemImpl { attrs, .. })
        | Item::Macro(ItemMacro { attrs, .. })
        | Item::Mod(ItemMod { attrs, .. })
        | Item::Static(ItemStatic { attrs, .. })
        | Item::Struct(ItemStruct { attrs, .. })
        | Item::Trait(ItemTrait { attrs, .. })
        | Item::TraitAlias(ItemTraitAlias { attrs, .. })
        | Item::Type(ItemType { attrs, .. })
        | Item::Union(ItemUnion { attrs, .. })
        | Item::Use(ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}

/// What an item is called, if it is no module and can be imported.
fn name(item: &Item) -> Option<&Ident> {
    match item {
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Const(ItemConst { ident, .. })
        | Item::Enum(ItemEnum { ident, .. })
        | Item::Static(ItemStatic { ident, .. })
        | Item::Struct(ItemStruct { ident, .. })
        | Item::Trait(ItemTrait { ident, .. })
        | Item::TraitAlias(ItemTraitAlias { ident, .. })
        | Item::Type(ItemType { ident, .. })
        | Item::Union(ItemUnion { ident, .. }) => Some(ident),
        _ => None,
    }
}

/// A `use`, one name at a time.
pub(super) fn uses(item: &ItemUse) -> Vec<Use> {
    let mut found = Vec::new();
    let is_exported = !matches!(item.vis, Visibility::Inherited);
    // What begins with `::` is another crate.
    if item.leading_colon.is_none() {
        flatten(&item.tree, &[], is_exported, &mut found);
    }
    found
}

fn flatten(tree: &UseTree, before: &[String], is_exported: bool, found: &mut Vec<Use>) {
    let with = |ident: &Ident| [before, &[ident.to_string()]].concat();
    // `{self, …}` imports what stands in front of the braces.
    let named = |ident: &Ident| if ident == "self" { before.to_vec() } else { with(ident) };
    match tree {
        UseTree::Path(path) => flatten(&path.tree, &with(&path.ident), is_exported, found),
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| flatten(tree, before, is_exported, found));
        }
        UseTree::Name(name) => {
            let path = named(&name.ident);
            let line = name.ident.span().start().line;
            found.push(Use { name: path.last().cloned(), path, is_exported, line });
        }
        UseTree::Rename(name) => found.push(Use {
            path: named(&name.ident),
            name: Some(name.rename.to_string()),
            is_exported,
            line: name.ident.span().start().line,
        }),
        UseTree::Glob(glob) => found.push(Use {
            path: before.to_vec(),
            name: None,
            is_exported,
            line: glob.star_token.spans.first().map_or(0, |span| span.start().line),
        }),
    }
}

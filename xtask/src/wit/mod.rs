//! The published interfaces, read from `wit/`: for the page that lists them, and for comparing them with what was
//! published.

#[cfg(test)]
mod drift;
mod names;
mod reference;

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result};
use wit_parser::{Docs, FunctionKind, InterfaceId, Resolve, TypeDefKind, TypeId, TypeOwner, WorldItem};

use self::names::Text;
use crate::workspace;

/// Writes docs/plugins/hooks.md: every hook, operation and type of wit/
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// `cargo xtask hook-reference`.
pub(crate) fn main(_: &Args) -> Result<ExitCode> {
    let root = workspace::root();
    let page = reference::page(&read(&root.join("wit"))?);
    let path = root.join(reference::PAGE);
    fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
    println!("{}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Everything in a folder of WIT packages.
#[derive(Debug, Default)]
pub(crate) struct Published {
    interfaces: Vec<Interface>,
    worlds: Vec<World>,
}

/// An interface, such as `netloom:policy/attach-order@0.1.0`.
#[derive(Debug)]
struct Interface {
    id: String,
    name: String,
    docs: String,
    items: Vec<Item>,
}

/// A function or type of an interface.
#[derive(Debug)]
struct Item {
    /// What a sentence calls it: `record node`, `function place`.
    title: String,
    docs: String,
    form: Form,
}

#[derive(Debug)]
enum Form {
    /// With its signature behind the name.
    Function { name: String, signature: Text },
    /// A record, variant, enum or flags: its keyword and parts.
    Parts { keyword: &'static str, parts: Vec<Part> },
    /// Another name for a type.
    Alias { of: Text },
    /// A handle; its functions are items of their own.
    Resource,
}

/// A field or a case.
#[derive(Debug)]
struct Part {
    name: String,
    of: Option<Text>,
    docs: String,
}

/// A world: what a plugin of a kind exports and may import.
#[derive(Debug)]
struct World {
    id: String,
    docs: String,
    imports: Vec<String>,
    exports: Vec<String>,
}

/// Reads the packages in the folders below a folder.
pub(crate) fn read(folder: &Path) -> Result<Published> {
    let mut packages: Vec<_> = fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    // A package comes behind those it uses: `kernel`, then `policy`.
    packages.sort();
    let mut resolve = Resolve::default();
    for package in packages.iter().filter(|path| path.is_dir()) {
        resolve.push_dir(package).with_context(|| format!("reading the package {}", package.display()))?;
    }
    Ok(Published {
        interfaces: resolve.interfaces.iter().filter_map(|(id, _)| interface_of(&resolve, id)).collect(),
        worlds: resolve.worlds.iter().map(|(_, world)| world_of(&resolve, world)).collect(),
    })
}

fn interface_of(resolve: &Resolve, id: InterfaceId) -> Option<Interface> {
    let interface = resolve.interfaces.get(id)?;
    let mut items: Vec<Item> = Vec::new();
    items.extend(interface.functions.values().map(|function| function_of(resolve, function)));
    items.extend(interface.types.values().filter_map(|of| item(resolve, id, *of)));
    Some(Interface {
        id: resolve.id_of(id)?,
        name: interface.name.clone()?,
        docs: docs(&interface.docs),
        items,
    })
}

fn function_of(resolve: &Resolve, function: &wit_parser::Function) -> Item {
    // `[method]device.inspect` is `device.inspect`, and its first parameter the device.
    let name = function.name.rsplit(']').next().unwrap_or(&function.name).to_owned();
    let of_handle = matches!(function.kind, FunctionKind::Method(_) | FunctionKind::AsyncMethod(_));
    let params = function.params.iter().skip(usize::from(of_handle));
    let mut signature = Text::from("func(");
    for (at, param) in params.enumerate() {
        signature.push(if at == 0 { "" } else { ", " });
        signature.push(&format!("{}: ", param.name));
        signature.append(names::of_type(resolve, &param.ty));
    }
    signature.push(")");
    if let Some(result) = &function.result {
        signature.push(" -> ");
        signature.append(names::of_type(resolve, result));
    }
    let docs = docs(&function.docs);
    Item { title: format!("function {name}"), docs, form: Form::Function { name, signature } }
}

/// A type that an interface defines; none for one it only uses.
fn item(resolve: &Resolve, owner: InterfaceId, id: TypeId) -> Option<Item> {
    let defined = resolve.types.get(id)?;
    let name = defined.name.clone()?;
    let part = |name: &str, of: Option<&wit_parser::Type>, about: &Docs| Part {
        name: name.to_owned(),
        of: of.map(|of| names::of_type(resolve, of)),
        docs: docs(about),
    };
    let (keyword, parts) = match &defined.kind {
        TypeDefKind::Record(record) => {
            let fields = record.fields.iter().map(|field| part(&field.name, Some(&field.ty), &field.docs));
            ("record", fields.collect())
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| part(&case.name, case.ty.as_ref(), &case.docs));
            ("variant", cases.collect())
        }
        TypeDefKind::Enum(cases) => {
            ("enum", cases.cases.iter().map(|case| part(&case.name, None, &case.docs)).collect())
        }
        TypeDefKind::Flags(flags) => {
            ("flags", flags.flags.iter().map(|flag| part(&flag.name, None, &flag.docs)).collect())
        }
        TypeDefKind::Resource => ("resource", Vec::new()),
        TypeDefKind::Type(wit_parser::Type::Id(used))
            if resolve.types.get(*used)?.owner != TypeOwner::Interface(owner) =>
        {
            return None;
        }
        _ => ("type", Vec::new()),
    };
    let form = match keyword {
        "resource" => Form::Resource,
        "type" => Form::Alias { of: names::structure(resolve, &defined.kind) },
        _ => Form::Parts { keyword, parts },
    };
    Some(Item { title: format!("{keyword} {name}"), docs: docs(&defined.docs), form })
}

fn world_of(resolve: &Resolve, world: &wit_parser::World) -> World {
    let names = |items: &mut dyn Iterator<Item = (&wit_parser::WorldKey, &WorldItem)>| {
        items.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    let package = world.package.and_then(|package| resolve.packages.get(package));
    World {
        id: package.map_or_else(|| world.name.clone(), |package| package.name.interface_id(&world.name)),
        docs: docs(&world.docs),
        imports: names(&mut world.imports.iter()),
        exports: names(&mut world.exports.iter()),
    }
}

fn docs(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().to_owned()
}

//! Types as WIT writes them, with the names in them told apart, for links.

use std::fmt;

use wit_parser::{Handle, Resolve, Type, TypeDefKind};

/// A type or a signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Plain(String),
    /// The title of what it names, such as `record node`, and the name.
    Name(String, String),
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(vec![Piece::Plain(text.to_owned())])
    }
}

impl Text {
    pub(super) fn push(&mut self, text: &str) {
        match self.0.last_mut() {
            Some(Piece::Plain(last)) => last.push_str(text),
            _ => self.0.push(Piece::Plain(text.to_owned())),
        }
    }

    pub(super) fn append(&mut self, other: Self) {
        for piece in other.0 {
            match piece {
                Piece::Plain(text) => self.push(&text),
                name @ Piece::Name(..) => self.0.push(name),
            }
        }
    }

    /// In Markdown, each name a link to its heading.
    pub(super) fn linked(&self) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Plain(text) => format!("`{text}`"),
            Piece::Name(title, name) => format!("[`{name}`](#{})", anchor(title)),
        });
        pieces.collect()
    }

    /// A link to each name in it, each once.
    pub(super) fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for piece in &self.0 {
            if let Piece::Name(title, name) = piece {
                let link = format!("[`{name}`](#{})", anchor(title));
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        links
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Plain(text) | Piece::Name(_, text) => f.write_str(text),
        })
    }
}

/// What a link to a heading ends with.
pub(super) fn anchor(title: &str) -> String {
    title.replace(' ', "-")
}

/// A type where it is used.
pub(super) fn of_type(resolve: &Resolve, of: &Type) -> Text {
    let Type::Id(id) = of else { return Text::from(primitive(of)) };
    let Some(defined) = resolve.types.get(*id) else { return Text::default() };
    let Some(name) = &defined.name else { return structure(resolve, &defined.kind) };
    // An interface that uses a type of another has a name of its own for it: what counts is what that stands for.
    if let TypeDefKind::Type(used @ Type::Id(behind)) = &defined.kind
        && resolve.types.get(*behind).is_some_and(|behind| behind.owner != defined.owner)
    {
        return of_type(resolve, used);
    }
    let keyword = match &defined.kind {
        TypeDefKind::Record(_) => "record",
        TypeDefKind::Variant(_) => "variant",
        TypeDefKind::Enum(_) => "enum",
        TypeDefKind::Flags(_) => "flags",
        TypeDefKind::Resource => "resource",
        _ => "type",
    };
    Text(vec![Piece::Name(format!("{keyword} {name}"), name.clone())])
}

/// A type without a name.
pub(super) fn structure(resolve: &Resolve, kind: &TypeDefKind) -> Text {
    let inside = |keyword: &str, types: &[Option<&Type>]| {
        let mut text = Text::from(keyword);
        text.push("<");
        for (at, each) in types.iter().enumerate() {
            text.push(if at == 0 { "" } else { ", " });
            text.append(each.map_or_else(|| Text::from("_"), |each| of_type(resolve, each)));
        }
        text.push(">");
        text
    };
    match kind {
        TypeDefKind::Option(each) => inside("option", &[Some(each)]),
        TypeDefKind::List(each) => inside("list", &[Some(each)]),
        TypeDefKind::Tuple(tuple) => inside("tuple", &tuple.types.iter().map(Some).collect::<Vec<_>>()),
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (None, None) => Text::from("result"),
            (ok, None) => inside("result", &[ok.as_ref()]),
            (ok, err) => inside("result", &[ok.as_ref(), err.as_ref()]),
        },
        TypeDefKind::Handle(Handle::Own(id)) => of_type(resolve, &Type::Id(*id)),
        TypeDefKind::Handle(Handle::Borrow(id)) => inside("borrow", &[Some(&Type::Id(*id))]),
        TypeDefKind::Type(each) => of_type(resolve, each),
        // What the interfaces do not have so far is shown by its kind, so that nothing changes unseen.
        other => Text::from(format!("{other:?}").as_str()),
    }
}

fn primitive(of: &Type) -> &'static str {
    match of {
        Type::Bool => "bool",
        Type::U8 => "u8",
        Type::U16 => "u16",
        Type::U32 => "u32",
        Type::U64 => "u64",
        Type::S8 => "s8",
        Type::S16 => "s16",
        Type::S32 => "s32",
        Type::S64 => "s64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Id(_) => "",
    }
}

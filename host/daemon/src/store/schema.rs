//! The layout of the store, by number. A file of an older layout is brought up to date at the start, one of a newer is
//! refused.
//!
//! | layout | what |
//! |---|---|
//! | 0 | every record is JSON; no layout is written down |
//! | 1 | the layout is written down; values of plugins are the bytes they are |
//! | 2 | plans have a pivot, with the steps before it and those behind it |
//!
//! The table `store` with its record `layout` is what every version has to be able to read.

use std::{fs, path::Path};

use netloom_core::plan::{Op, Pivot, Plan, RelocationStep};
use redb::{Database, ReadableDatabase as _, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

use super::{
    StoreError,
    file::{self, Trouble, at_start},
    image::{Delta, Image},
    records::{KvRecord, Record},
};

/// The layout that this version writes.
pub(super) const LAYOUT: u32 = 2;
/// This version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

const KEY: &str = "layout";

/// Which layout a file has, and who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layout {
    pub(super) layout: u32,
    pub(super) written_by: String,
}
impl Record for Layout {
    const TABLE: &'static str = "store";
}

impl Layout {
    fn current() -> Self {
        Self { layout: LAYOUT, written_by: VERSION.to_owned() }
    }

    /// What is written down of the layout; none in a file of layout 0.
    pub(super) fn of(database: &Database) -> Result<Option<Self>, Trouble> {
        let definition: TableDefinition<'_, &str, &[u8]> = TableDefinition::new(Self::TABLE);
        let table = match database.begin_read()?.open_table(definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let record = redb::ReadableTable::get(&table, KEY)?;
        let decoded = record.map(|bytes| Self::decode(bytes.value())).transpose();
        decoded.map_err(|error| Trouble {
            kind: file::TroubleKind::Damaged,
            message: format!("its layout is not understood: {error}"),
        })
    }
}

/// The change that writes the present layout down.
pub(super) fn mark(delta: &mut Delta) {
    // A struct of a number and a string is always JSON.
    if let Ok(bytes) = Layout::current().encode() {
        delta.set(Layout::TABLE.into(), KEY, Some(bytes.into()));
    }
}

/// An empty store of the present layout.
pub(super) fn fresh() -> Image {
    let (mut image, mut delta) = (Image::default(), Delta::default());
    mark(&mut delta);
    image.apply(&delta);
    image
}

/// Refuses a file of a newer layout, and brings one of an older up to date. What it was stays beside it.
pub(super) fn bring_up_to_date(path: &Path, database: &Database) -> Result<(), StoreError> {
    let failed = |trouble| at_start(path, trouble);
    let found = Layout::of(database).map_err(failed)?;
    let layout = found.as_ref().map_or(0, |found| found.layout);
    if layout > LAYOUT {
        let written_by = found.map(|found| found.written_by).unwrap_or_default();
        return Err(StoreError::Newer { path: path.to_owned(), layout, written_by });
    }
    if found.as_ref() == Some(&Layout::current()) {
        return Ok(());
    }
    let mut delta = Delta::default();
    if layout < LAYOUT {
        let image = file::read(database).map_err(failed)?;
        let kept = file::beside(path, &format!("layout-{layout}"));
        fs::copy(path, &kept).map_err(|error| {
            let attempt = format!("it cannot be kept as {} before it is brought up to date", kept.display());
            failed(Trouble::io(&attempt, &error))
        })?;
        if layout == 0 {
            values_as_bytes(&image, &mut delta)?;
        }
        plans_with_a_pivot(&image, &mut delta)?;
        tracing::info!(from = layout, to = LAYOUT, kept = %kept.display(), "the store was brought up to date");
    }
    mark(&mut delta);
    file::write(database, &delta).map_err(failed)
}

/// From 0 to 1: values of plugins were arrays of numbers.
fn values_as_bytes(image: &Image, delta: &mut Delta) -> Result<(), StoreError> {
    convert::<KvRecord>(image, delta, |value| serde_json::from_slice(value))
}

/// From 1 to 2: plans had their steps in one row, and said what becomes of them after a crash.
fn plans_with_a_pivot(image: &Image, delta: &mut Delta) -> Result<(), StoreError> {
    #[derive(Deserialize)]
    struct Before {
        what: String,
        ops: Vec<Op>,
        recovery: String,
    }
    convert::<Plan>(image, delta, |value| {
        let Before { what, mut ops, recovery } = serde_json::from_slice(value)?;
        let turn =
            |op: &Op| matches!(op, Op::Relocate { step: RelocationStep::Turn, .. }) && recovery == "at-turn";
        let plan = match (ops.iter().position(turn), recovery.as_str()) {
            (Some(turn), _) => {
                let after = ops.split_off(turn + 1);
                let pivot = ops.pop().map_or(Pivot::Commit, |turn| Pivot::Step(Box::new(turn)));
                Plan { what, before: ops, pivot, after }
            }
            (None, "finish") => Plan::rest(what, ops),
            (None, _) => Plan::make(what, ops),
        };
        serde_json::to_vec(&plan)
    })
}

/// Writes every record of a kind anew.
fn convert<R: Record>(
    image: &Image,
    delta: &mut Delta,
    anew: impl Fn(&[u8]) -> serde_json::Result<Vec<u8>>,
) -> Result<(), StoreError> {
    for (key, value) in image.table(R::TABLE) {
        let bytes =
            anew(value).map_err(|source| StoreError::Record { table: R::TABLE, key: key.clone(), source })?;
        delta.set(R::TABLE.into(), key, Some(bytes.into()));
    }
    Ok(())
}

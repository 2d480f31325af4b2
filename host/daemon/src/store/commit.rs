//! Commits. Changes are put together one after the other, and those that wait for the disk together are written
//! together.
//!
//! Whoever finds nobody writing writes for all that wait. When a write fails, the store is broken: what waited is
//! refused, the file is opened anew now and then, compared with what is committed, and written again. The database
//! itself would refuse everything for ever after one error.

use std::{
    mem,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    thread,
    time::Duration,
};

use redb::Database;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{
    Attachments, StoreError,
    changes::{Changes, decode},
    file::{self, Opener, Trouble, TroubleKind},
    health::{Broken, Health, Notice},
    image::{Delta, Image, View},
    records::Record,
    schema,
};

/// Pauses between two tries to write a broken store: the first, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What becomes of a change when the store is broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It is refused.
    Refusable,
    /// It is what the kernel is already like: it counts at once, and is written when the disk takes it.
    Fact,
}

/// Who is told when the store breaks, and when it heals.
pub(super) type Told = dyn Fn(Notice) + Send + Sync;

/// What is shared with whoever heals the store.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    opener: Box<Opener>,
    pub(super) view: Arc<RwLock<View>>,
    /// What is committed of them: they are asked for with each chain, and a node may have thousands.
    pub(super) attachments: RwLock<Arc<Attachments>>,
    /// Held while a change is put together.
    order: Mutex<()>,
    queue: Mutex<Queue>,
    turn: Condvar,
    pub(super) told: Mutex<Option<Box<Told>>>,
}

struct Queue {
    database: Option<Database>,
    /// The number of the last change.
    last: u64,
    waiting: Vec<Waiting>,
    /// Whether somebody has the database.
    writing: bool,
    /// Whether somebody tries to heal the store in the background.
    healing: bool,
    /// Facts that count and are not on the disk.
    owed: u64,
    health: Health,
    /// Tries to write a broken store again that were begun.
    tries: u64,
}

struct Waiting {
    number: u64,
    delta: Delta,
    need: Need,
    outcome: Outcome,
}

type Outcome = Arc<OnceLock<Result<(), Broken>>>;

impl Shared {
    pub(super) fn new(path: PathBuf, opener: Box<Opener>, database: Database, view: View) -> Self {
        Self {
            path,
            opener,
            view: Arc::new(RwLock::new(view)),
            attachments: RwLock::default(),
            order: Mutex::default(),
            queue: Mutex::new(Queue {
                database: Some(database),
                last: 0,
                waiting: Vec::new(),
                writing: false,
                healing: false,
                owed: 0,
                health: Health::default(),
                tries: 0,
            }),
            turn: Condvar::new(),
            told: Mutex::default(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn health(&self) -> (Health, u64) {
        let queue = self.queue();
        (queue.health.clone(), queue.owed)
    }

    /// Refuses, where the store is broken and stays so.
    pub(super) fn ready(self: &Arc<Self>) -> Result<(), Broken> {
        if self.queue().health.is_writable() {
            return Ok(());
        }
        blocking(|| self.heal())
    }

    pub(super) fn commit<T>(
        self: &Arc<Self>,
        need: Need,
        changes: impl FnOnce(&Changes) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if need == Need::Refusable {
            self.ready()?;
        }
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let made = Changes::over(&self.view);
        let value = changes(&made)?;
        let delta = made.into_delta();
        if delta.is_empty() {
            return Ok(value);
        }
        let outcome = Outcome::default();
        {
            let mut queue = self.queue();
            if let Some(broken) = queue.health.broken.clone() {
                if need == Need::Refusable {
                    return Err(broken.into());
                }
                self.publish([&delta]);
                queue.owed += 1;
                return Ok(value);
            }
            queue.last += 1;
            let number = queue.last;
            self.view.write().unwrap_or_else(PoisonError::into_inner).overlay.lay(number, &delta);
            queue.waiting.push(Waiting { number, delta, need, outcome: Arc::clone(&outcome) });
        }
        drop(order);
        blocking(|| self.wait(&outcome))?;
        Ok(value)
    }

    /// Waits until a change is on the disk, or refused.
    fn wait(self: &Arc<Self>, outcome: &Outcome) -> Result<(), Broken> {
        let mut queue = self.queue();
        loop {
            if let Some(outcome) = outcome.get() {
                return outcome.clone();
            }
            queue = if queue.writing {
                self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.write_all(queue)
            };
        }
    }

    /// Writes everything that waits.
    fn write_all<'a>(self: &'a Arc<Self>, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        queue.writing = true;
        let batch = mem::take(&mut queue.waiting);
        let database = queue.database.take();
        drop(queue);
        let mut together = Delta::default();
        for waiting in &batch {
            together.extend(&waiting.delta);
        }
        let written = match &database {
            Some(database) => file::write(database, &together),
            None => Err(Trouble { kind: TroubleKind::Missing, message: "it is not open".into() }),
        };
        match written {
            Ok(()) => {
                self.publish([&together]);
                if let Some(last) = batch.last() {
                    let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
                    view.overlay.committed(last.number);
                }
                let mut queue = self.queue();
                queue.database = database;
                queue.health.commits += batch.len() as u64;
                queue.health.writes += 1;
                self.end_turn(&mut queue, batch, |_| Ok(()));
                queue
            }
            Err(trouble) => {
                file::close(database);
                self.refuse(batch, trouble)
            }
        }
    }

    /// The disk refused: so is everything that waits, as it was put together on top of it.
    fn refuse(self: &Arc<Self>, mut batch: Vec<Waiting>, trouble: Trouble) -> MutexGuard<'_, Queue> {
        let broken = Broken::new(&self.path, trouble);
        tracing::error!(store = %self.path.display(), error = %broken.reason, "the store is broken: changes are refused");
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut queue = self.queue();
        batch.append(&mut queue.waiting);
        self.view.write().unwrap_or_else(PoisonError::into_inner).overlay.clear();
        let facts: Vec<&Delta> =
            batch.iter().filter(|waiting| waiting.need == Need::Fact).map(|waiting| &waiting.delta).collect();
        queue.owed += facts.len() as u64;
        self.publish(facts);
        queue.health.fail(broken.clone());
        self.end_turn(&mut queue, batch, |waiting| match waiting.need {
            Need::Fact => Ok(()),
            Need::Refusable => Err(broken.clone()),
        });
        let start = !mem::replace(&mut queue.healing, true);
        drop(order);
        drop(queue);
        self.tell(Notice::Broken(broken.to_string()));
        if start {
            self.heal_in_background();
        }
        self.queue()
    }

    fn end_turn(
        &self,
        queue: &mut Queue,
        batch: Vec<Waiting>,
        outcome: impl Fn(&Waiting) -> Result<(), Broken>,
    ) {
        queue.writing = false;
        for waiting in batch {
            // It is given here alone.
            drop(waiting.outcome.set(outcome(&waiting)));
        }
        self.turn.notify_all();
    }

    /// Has changes count.
    fn publish<'a>(&self, deltas: impl IntoIterator<Item = &'a Delta>) {
        use netloom_core::model::Attachment;
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            view.image.apply(delta);
            let mut changed = delta.table(Attachment::TABLE).peekable();
            if changed.peek().is_none() {
                continue;
            }
            let mut attachments = self.attachments.write().unwrap_or_else(PoisonError::into_inner);
            let attachments = Arc::make_mut(&mut attachments);
            for (id, change) in changed {
                // What was encoded a moment ago is understood.
                match change.and_then(|bytes| decode(id, bytes).ok()) {
                    Some(attachment) => drop(attachments.insert(id.clone(), attachment)),
                    None => drop(attachments.remove(id)),
                }
            }
        }
    }

    fn tell(&self, notice: Notice) {
        if let Some(told) = self.told.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            told(notice);
        }
    }

    /// Tries to write a broken store again. Of those that come together one tries for all.
    pub(super) fn heal(self: &Arc<Self>) -> Result<(), Broken> {
        let mut queue = self.queue();
        let begun = queue.tries;
        while queue.writing {
            queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let Some(broken) = queue.health.broken.clone() else { return Ok(()) };
        if queue.tries > begun {
            // A try that began after this one came has failed.
            return Err(broken);
        }
        queue.tries += 1;
        queue.writing = true;
        file::close(queue.database.take());
        loop {
            let owed = queue.owed;
            drop(queue);
            let healed = self.write_again();
            queue = self.queue();
            match healed {
                // Facts that came meanwhile are not in it.
                Ok(database) if queue.owed != owed => file::close(Some(database)),
                Ok(database) => {
                    queue.database = Some(database);
                    queue.owed = 0;
                    queue.health.heal();
                    self.end_turn(&mut queue, Vec::new(), |_| Ok(()));
                    drop(queue);
                    tracing::info!(store = %self.path.display(), "the store is written again");
                    self.tell(Notice::Healed(format!("{} is written again", self.path.display())));
                    return Ok(());
                }
                Err(trouble) => {
                    let still = Broken { reason: trouble.message.into(), ..broken };
                    let still = Broken { space: trouble.kind == TroubleKind::NoSpace, ..still };
                    queue.health.fail(still.clone());
                    self.end_turn(&mut queue, Vec::new(), |_| Ok(()));
                    return Err(still);
                }
            }
        }
    }

    /// Opens the file anew and has it hold exactly what is committed: the change that failed may be in it or not. One
    /// that is gone or damaged is made anew from what is in memory.
    fn write_again(&self) -> Result<Database, Trouble> {
        file::probe(&self.path)?;
        let image = self.view.read().unwrap_or_else(PoisonError::into_inner).image.clone();
        let opened = file::open(&self.path, &self.opener);
        let (database, found) = match opened {
            Err(trouble) if matches!(trouble.kind, TroubleKind::Damaged | TroubleKind::Missing) => {
                if trouble.kind == TroubleKind::Damaged {
                    let aside = file::set_aside(&self.path)?;
                    tracing::error!(error = trouble.message, kept = %aside.display(), "the store's file is made anew");
                }
                file::make(&self.path, &image)?;
                file::open(&self.path, &self.opener)?
            }
            opened => opened?,
        };
        let mut delta = image.difference_from(&found);
        // Something is written in any case: only that shows that the disk takes it.
        schema::mark(&mut delta);
        file::write(&database, &delta)?;
        Ok(database)
    }

    fn heal_in_background(self: &Arc<Self>) {
        let weak = Arc::downgrade(self);
        let healer = move || {
            let mut pause = FIRST_PAUSE;
            loop {
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
                let Some(shared) = weak.upgrade() else { return };
                drop(shared.heal());
                let mut queue = shared.queue();
                if queue.health.broken.is_none() {
                    queue.healing = false;
                    return;
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("store".into()).spawn(healer) {
            self.queue().healing = false;
            tracing::error!(%error, "the store is tried again with the next change only");
        }
    }

    /// Has the database for a moment, when nobody writes, and what has to be in it. If that finds trouble, the store is
    /// broken.
    pub(super) fn with_database<T>(
        self: &Arc<Self>,
        look: impl FnOnce(&mut Database, &Image) -> Result<T, Trouble>,
    ) -> Result<T, Broken> {
        let mut queue = self.queue();
        while queue.writing {
            queue = self.turn.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(broken) = &queue.health.broken {
            return Err(broken.clone());
        }
        queue.writing = true;
        let mut database = queue.database.take();
        drop(queue);
        let looked = match &mut database {
            Some(database) => {
                let image = self.view.read().unwrap_or_else(PoisonError::into_inner).image.clone();
                file::guarded(|| look(database, &image))
            }
            None => Err(Trouble { kind: TroubleKind::Missing, message: "it is not open".into() }),
        };
        match looked {
            Ok(value) => {
                let mut queue = self.queue();
                queue.database = database;
                self.end_turn(&mut queue, Vec::new(), |_| Ok(()));
                Ok(value)
            }
            Err(trouble) => {
                file::close(database);
                let broken = Broken::new(&self.path, trouble.clone());
                drop(self.refuse(Vec::new(), trouble));
                Err(broken)
            }
        }
    }
}

/// Waits for the disk. Other tasks of the worker that waits go on elsewhere.
fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(wait)
        }
        _ => wait(),
    }
}

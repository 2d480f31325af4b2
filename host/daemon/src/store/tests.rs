use std::{
    io,
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
    time::Duration,
};

use netloom_core::plan::{Pivot, Plan};
use redb::{Builder, DatabaseError, StorageBackend, backends::FileBackend};

use super::*;

/// A store as the daemon of layout 0 left it, when it was killed while an endpoint was being added.
const LAYOUT_0: &[u8] = include_bytes!("frozen/layout-0.redb");
const LAYOUT_1: &[u8] = include_bytes!("frozen/layout-1.redb");

fn plan(what: &str) -> Plan {
    Plan::make(what.into(), vec![])
}

fn put(store: &Store, key: &str, what: &str) -> Result<(), StoreError> {
    store.commit(|changes| changes.put(key, &plan(what)))
}

fn plans(store: &Store) -> Vec<(String, String)> {
    let plans = store.all::<Plan>().unwrap();
    plans.into_iter().map(|(key, plan)| (key, plan.what)).collect()
}

/// A disk that fails when it is told to.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    fault: Arc<Fault>,
}

#[derive(Debug, Default)]
struct Fault {
    /// How many more writes succeed; below zero each of them fails.
    left: AtomicI64,
    /// What the failing ones fail with.
    errno: AtomicU32,
}

impl Fault {
    fn none() -> Arc<Self> {
        let fault = Self::default();
        fault.left.store(i64::MAX, Ordering::SeqCst);
        Arc::new(fault)
    }

    /// Every write fails from the n-th on.
    fn after(&self, writes: i64, errno: rustix::io::Errno) {
        self.errno.store(errno.raw_os_error().unsigned_abs(), Ordering::SeqCst);
        self.left.store(writes, Ordering::SeqCst);
    }

    fn heal(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(self.errno.load(Ordering::SeqCst).cast_signed()))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.fault.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.fault.check()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fault.check()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn on_disk_with(fault: &Arc<Fault>, path: &Path) -> Store {
    let fault = Arc::clone(fault);
    let opener = move |path: &Path| -> Result<Database, DatabaseError> {
        let file = std::fs::File::options().read(true).write(true).open(path)?;
        let disk = Disk { file: FileBackend::new(file)?, fault: Arc::clone(&fault) };
        Builder::new().create_with_backend(disk)
    };
    Store::open_with(path, Box::new(opener)).unwrap()
}

#[test]
fn what_is_committed_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    assert!(store.all::<Plan>().unwrap().is_empty());
    put(&store, "a", "add").unwrap();
    put(&store, "b", "gone").unwrap();
    assert!(store.commit(|changes| changes.remove::<Plan>("b")).unwrap());
    assert!(!store.commit(|changes| changes.remove::<Plan>("b")).unwrap());
    drop(store);
    assert_eq!(plans(&Store::open(&path).unwrap()), [("a".to_owned(), "add".to_owned())]);
}

#[test]
fn a_change_that_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let failed: Result<(), _> = store.commit(|changes| {
        changes.put("a", &plan("add"))?;
        assert_eq!(changes.get::<Plan>("a")?, Some(plan("add")));
        Plan::decode(b"?").map(drop).map_err(|source| StoreError::Record {
            table: Plan::TABLE,
            key: "a".into(),
            source,
        })
    });
    assert!(failed.is_err());
    assert_eq!(store.get::<Plan>("a").unwrap(), None);
    put(&store, "b", "another").unwrap();
}

#[test]
fn counters_never_repeat() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = Store::open(&path).unwrap().commit(|changes| changes.next("x")).unwrap();
    let second = Store::open(&path).unwrap().commit(|changes| changes.next("x")).unwrap();
    assert_eq!((first, second), (1, 2));
}

/// Whatever write or flush fails: the change is refused, the records before it are read, more changes are refused, and
/// when the disk works again the file has exactly what was answered with success.
#[test]
fn every_write_that_may_fail_is_loud_and_heals() {
    for errno in [rustix::io::Errno::IO, rustix::io::Errno::NOSPC] {
        let mut failed = 0;
        for writes in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("store");
            let fault = Fault::none();
            let store = on_disk_with(&fault, &path);
            put(&store, "a", "before").unwrap();
            fault.after(writes, errno);
            let refused = put(&store, "b", "refused");
            if refused.is_ok() {
                break;
            }
            failed += 1;
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()) && error.contains("os error"), "{error}");
            let before = [("a".to_owned(), "before".to_owned())];
            assert_eq!(plans(&store), before, "reads do not go on after write {writes}");
            assert!(!store.health().is_writable());
            assert_eq!(store.findings().first().unwrap().severity, "error");
            assert!(put(&store, "c", "refused").is_err());
            fault.heal();
            until(|| store.ready().is_ok());
            assert_eq!(plans(&store), before, "after write {writes} failed and the store healed");
            assert!(store.status().trouble.is_none());
            put(&store, "d", "after").unwrap();
            let after = [before[0].clone(), ("d".to_owned(), "after".to_owned())];
            drop(store);
            assert_eq!(plans(&Store::open(&path).unwrap()), after, "on the disk after write {writes}");
        }
        assert!(failed > 2, "{failed} writes failed with {errno}");
    }
}

#[test]
fn a_broken_store_heals_in_the_background_and_tells_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let fault = Fault::none();
    let store = on_disk_with(&fault, &path);
    let (tell, told) = std::sync::mpsc::channel();
    store.on_notice(move |notice| tell.send(notice).unwrap());
    fault.after(0, rustix::io::Errno::IO);
    assert!(put(&store, "a", "refused").is_err());
    let patience = Duration::from_secs(30);
    assert!(matches!(told.recv_timeout(patience), Ok(Notice::Broken(_))));
    fault.heal();
    assert!(matches!(told.recv_timeout(patience), Ok(Notice::Healed(_))));
    assert!(store.health().is_writable());
}

#[test]
fn facts_count_while_the_disk_fails_and_are_written_when_it_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let fault = Fault::none();
    let store = on_disk_with(&fault, &path);
    put(&store, "a", "to be undone").unwrap();
    put(&store, "b", "to be undone").unwrap();
    fault.after(0, rustix::io::Errno::IO);
    // The one that finds it out, and one that comes later.
    store.settle(|changes| changes.remove::<Plan>("a")).unwrap();
    store.settle(|changes| changes.remove::<Plan>("b")).unwrap();
    assert!(plans(&store).is_empty());
    assert_eq!(store.status().trouble.unwrap().owed, 2);
    fault.heal();
    until(|| store.ready().is_ok());
    drop(store);
    assert!(plans(&Store::open(&path).unwrap()).is_empty());
}

#[test]
fn a_file_that_is_gone_or_overwritten_is_made_anew_from_memory() {
    for overwritten in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let fault = Fault::none();
        let store = on_disk_with(&fault, &path);
        put(&store, "a", "before").unwrap();
        fault.after(0, rustix::io::Errno::IO);
        assert!(put(&store, "b", "refused").is_err());
        if overwritten {
            std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        fault.heal();
        until(|| store.ready().is_ok());
        drop(store);
        let again = Store::open(&path).unwrap();
        assert_eq!(plans(&again), [("a".to_owned(), "before".to_owned())]);
        assert_eq!(folder.path().join("store.damaged").exists(), overwritten);
    }
}

#[test]
fn changes_that_come_together_are_written_together_and_all_are_there() {
    const THREADS: usize = 8;
    const EACH: usize = 25;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for number in 0..EACH {
                    let key = store.commit(|changes| {
                        let key = number_key(changes.next("plan")?);
                        changes.put(&key, &plan(&format!("{thread}/{number}")))?;
                        Ok(key)
                    });
                    assert!(store.get::<Plan>(&key.unwrap()).unwrap().is_some());
                }
            });
        }
    });
    let health = store.health();
    assert_eq!(health.commits, (THREADS * EACH) as u64);
    assert!(health.writes < health.commits, "{} writes for {} changes", health.writes, health.commits);
    drop(store);
    assert_eq!(Store::open(&path).unwrap().all::<Plan>().unwrap().len(), THREADS * EACH);
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = Store::open(&path).unwrap();
    for number in 0..200_u64 {
        store
            .commit(|changes| {
                changes
                    .put(&number_key(number), &plan("a plan that takes some room, so that there are pages"))
            })
            .unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut");
    let near_the_start = (0..4096).step_by(97);
    let elsewhere = (4096..whole.len()).step_by(whole.len() / 60);
    let at_the_end = (whole.len() - 3)..whole.len();
    let mut refused = 0;
    for length in near_the_start.chain(elsewhere).chain(at_the_end) {
        std::fs::write(&cut, &whole[..length]).unwrap();
        match Store::open(&cut) {
            Ok(store) => assert_eq!(store.all::<Plan>().unwrap().len(), 200, "cut to {length} bytes"),
            Err(error) => {
                refused += 1;
                let error = error.to_string();
                assert!(error.contains(cut.to_str().unwrap()), "cut to {length}: {error}");
                assert!(error.contains("netloom store restore"), "cut to {length}: {error}");
                assert_eq!(std::fs::metadata(&cut).unwrap().len(), length as u64, "the file was changed");
            }
        }
    }
    assert!(refused > 50, "{refused} refused");
}

#[test]
fn a_file_that_is_no_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, "no store at all").unwrap();
    let error = Store::open(&path).err().unwrap().to_string();
    assert!(error.contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_newer_layout_is_refused_in_words_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let mut delta = image::Delta::default();
    let layout = br#"{"layout":7,"written_by":"9.8.7","more":true}"#;
    delta.set("store".into(), "layout", Some(layout.as_slice().into()));
    file::write(&database, &delta).unwrap();
    drop(database);
    let error = Store::open(&path).err().unwrap().to_string();
    for part in [path.to_str().unwrap(), "9.8.7", "layout 7", "netloom store restore"] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    let database = Database::open(&path).unwrap();
    assert_eq!(schema::Layout::of(&database).unwrap().unwrap().layout, 7);
}

#[test]
fn a_store_of_layout_0_is_brought_up_to_date_with_everything_in_it() {
    use netloom_core::model::{Endpoint, ReapEvent};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, LAYOUT_0).unwrap();
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get::<Endpoint>("web").unwrap().unwrap().spec.netns, Path::new("/run/netns/web"));
        assert_eq!(store.get::<ServiceRecord>("shop").unwrap().unwrap().service.backends.len(), 1);
        assert_eq!(store.all::<ReapEvent>().unwrap().len(), 1);
        assert_eq!(store.get::<PluginRecord>("policy").unwrap().unwrap().order, 1);
        assert_eq!(store.all::<VersionRecord>().unwrap().len(), 1);
        assert_eq!(store.get::<KvRecord>("policy/seen").unwrap(), Some(KvRecord(vec![1, 2, 255])));
        assert_eq!(store.all::<Plan>().unwrap().len(), 1);
        let attachments: Vec<String> = store.attachments().keys().cloned().collect();
        assert_eq!(attachments, ["acme-flows-1", "netloom-datapath-uplink-eth0", "web:from", "web:to"]);
        store.commit(|changes| changes.next("service")).unwrap();
    }
    assert_eq!(std::fs::read(folder.path().join("store.layout-0")).unwrap().len(), LAYOUT_0.len());
    let database = Database::open(&path).unwrap();
    assert_eq!(schema::Layout::of(&database).unwrap().unwrap().layout, schema::LAYOUT);
}

/// Left by a daemon that was killed behind the turn of a move.
#[test]
fn a_plan_of_layout_1_gets_its_pivot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, LAYOUT_1).unwrap();
    let plans = Store::open(&path).unwrap().all::<Plan>().unwrap();
    let [(_, plan)] = &plans[..] else { panic!("{plans:?}") };
    assert_eq!((plan.before.len(), plan.after.len()), (2, 3), "{plan:?}");
    assert!(matches!(&plan.pivot, Pivot::Step(step) if step.is_barrier()), "{plan:?}");
    assert_eq!(std::fs::read(folder.path().join("store.layout-1")).unwrap().len(), LAYOUT_1.len());
}

#[test]
fn other_plans_of_layout_1_are_undone_or_finished_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path).unwrap());
    let step = r#"{"withdraw":{"id":7,"addresses":["10.0.0.2"]}}"#;
    let mut delta = image::Delta::default();
    delta.set("store".into(), "layout", Some(br#"{"layout":1,"written_by":"0.1.0"}"#.as_slice().into()));
    for recovery in ["undo", "finish"] {
        let plan = format!(r#"{{"what":"x","ops":[{step}],"recovery":"{recovery}"}}"#);
        delta.set("plans".into(), recovery, Some(plan.into_bytes().into()));
    }
    let database = Database::open(&path).unwrap();
    file::write(&database, &delta).unwrap();
    drop(database);
    let store = Store::open(&path).unwrap();
    let step: netloom_core::plan::Op = serde_json::from_str(step).unwrap();
    assert_eq!(store.get::<Plan>("undo").unwrap(), Some(Plan::make("x".into(), vec![step.clone()])));
    assert_eq!(store.get::<Plan>("finish").unwrap(), Some(Plan::rest("x".into(), vec![step])));
}

fn until(holds: impl Fn() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(std::time::Instant::now() < patience);
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! An object store that fails as real ones do, by the dice: before an effect, after it, long after it, in half of it.
//!
//! It holds its objects in memory and lies only in ways that stores, their networks and their clients' own retries have
//! been seen to: an answer that is lost behind an effect, a refusal (409) of something that is not there, a refusal of
//! one's own first attempt, a request that arrives when nobody waits for it any more, a body that is cut, a part that is
//! missing, a listing that lags.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use lakehead_core::Settings;
use lakehead_lakefile::{StoreKind, offer_stores};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use url::Url;

/// Operations until a request that was given up arrives after all, at most.
const LATE_OPERATIONS_MAX: u64 = 40;
/// Operations for which a listing that lags knows nothing of a new object.
const LAG_OPERATIONS: u64 = 25;
/// What goes wrong, as the client says it once its own attempts are used up.
const ANSWERS: [&str; 5] = [
    "503 Service Unavailable: SlowDown: please reduce your request rate",
    "500 Internal Server Error: we encountered an internal error, please try again",
    "429 Too Many Requests",
    "operation timed out",
    "connection closed before message completed",
];

/// Numbers that look like chance, the same ones for the same seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Begins with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Returns a number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// Returns true in `chances` of a thousand.
    pub fn hits(&mut self, chances: u64) -> bool {
        self.below(1000) < chances
    }
}

/// How often each fault comes, in a thousand operations that may meet it. A table is opened by a hundred reads, one after
/// the other, so that reads may fail a tenth as often as writes if it is to be opened at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A read or a listing ends in an error.
    pub read: u64,
    /// A write does not happen, and an error comes back.
    pub before: u64,
    /// A write happens, and an error comes back.
    pub after: u64,
    /// A write happens some operations later, behind an error.
    pub late: u64,
    /// A create is refused although nothing is there: 409, or 412 of some stores.
    pub refused: u64,
    /// A create happens and is refused: the client asked again by itself and met its own first attempt.
    pub own: u64,
    /// A body ends early, with an error.
    pub cut: u64,
    /// A listing does not know the newest objects.
    pub lag: u64,
    /// The answer takes its time, and others go first.
    pub slow: u64,
}

#[derive(Debug)]
enum Late {
    Put(Path, PutPayload, PutOptions),
    Copy(Path, Path, CopyOptions),
    Delete(Path),
}

/// A write that a script may have fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// A whole object, or the begin of one in parts.
    Put,
    /// A copy, by the name of its target.
    Copy,
    /// A removal.
    Delete,
}

/// What a script has a write meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meets {
    /// It does not happen.
    Loss,
    /// It happens when [`FaultStore::arrive`] is called.
    Delay,
}

#[derive(Debug)]
struct State {
    overwrites: bool,
    script: Vec<(Write, String, Meets)>,
    dice: Dice,
    faults: Faults,
    operations: u64,
    late: Vec<(u64, Late)>,
    made: HashMap<Path, u64>,
    met: BTreeMap<&'static str, u64>,
    bytes_asked: u64,
}

/// The store. Clones of its `Arc` are one store.
#[derive(Debug)]
pub struct FaultStore {
    objects: Arc<InMemory>,
    state: Mutex<State>,
}

/// What becomes of an operation.
enum Fate {
    Well,
    Before(Error),
    After(Error),
    /// It happens when so many operations have begun.
    Late(u64, Error),
}

static MOUNTED: LazyLock<Mutex<HashMap<String, Arc<FaultStore>>>> = LazyLock::new(Mutex::default);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(url: &Url, _: &Settings) -> lakehead_core::Result<Arc<dyn ObjectStore>> {
    let mounted = locked(&MOUNTED);
    let found = url.host_str().and_then(|name| mounted.get(name)).map(Arc::clone);
    found
        .map(|store| store as Arc<dyn ObjectStore>)
        .ok_or_else(|| lakehead_core::Error::bug("no store of faults has this name").with("location", url))
}

impl FaultStore {
    /// Makes a store that connectors find at `fault://<name>/…`; it is calm until told otherwise.
    pub fn mount(name: &str, seed: u64) -> Arc<Self> {
        offer_stores(&[StoreKind { name: "fault", open, signed: None }]);
        let state = State {
            overwrites: false,
            script: Vec::new(),
            dice: Dice::new(seed),
            faults: Faults::default(),
            operations: 0,
            late: Vec::new(),
            made: HashMap::new(),
            met: BTreeMap::new(),
            bytes_asked: 0,
        };
        let store = Arc::new(Self { objects: Arc::new(InMemory::new()), state: Mutex::new(state) });
        locked(&MOUNTED).insert(name.to_owned(), Arc::clone(&store));
        store
    }

    /// Has operations fail from now on.
    pub fn fail(&self, faults: Faults) {
        locked(&self.state).faults = faults;
    }

    /// Has creates write over what is there, as stores do that know no conditions.
    pub fn forget_conditions(&self) {
        locked(&self.state).overwrites = true;
    }

    /// Has the next such write of an object whose name holds `part` fail.
    pub fn fail_next(&self, write: Write, part: &str, meets: Meets) {
        locked(&self.state).script.push((write, part.to_owned(), meets));
    }

    /// Returns whether every write of the script has failed.
    pub fn script_is_over(&self) -> bool {
        locked(&self.state).script.is_empty()
    }

    /// Has what is under way arrive now.
    pub async fn arrive(&self) {
        let late = std::mem::take(&mut locked(&self.state).late);
        for (_, late) in late {
            self.land(late).await;
        }
    }

    /// Ends all faults; what is under way arrives first where `arrive` says so, and is lost otherwise.
    pub async fn calm(&self, arrive: bool) {
        locked(&self.state).faults = Faults::default();
        if arrive {
            self.arrive().await;
        }
        locked(&self.state).late.clear();
    }

    /// Returns how often each fault was met.
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        locked(&self.state).met.clone()
    }

    /// Returns the bytes that readers asked for so far.
    pub fn bytes_asked(&self) -> u64 {
        locked(&self.state).bytes_asked
    }

    /// Returns the objects themselves, without faults.
    pub fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects) as Arc<dyn ObjectStore>
    }

    /// Begins an operation: others may go first, and what is due arrives.
    async fn begin(&self) {
        let (due, slow) = {
            let mut state = locked(&self.state);
            state.operations += 1;
            let now = state.operations;
            let (due, later) = std::mem::take(&mut state.late).into_iter().partition(|(at, _)| *at <= now);
            state.late = later;
            let slow = state.faults.slow;
            (due, state.hit("slow", slow))
        };
        let due: Vec<(u64, Late)> = due;
        for (_, late) in due {
            self.land(late).await;
        }
        if slow {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn land(&self, late: Late) {
        // Nobody waits for the answer.
        match late {
            Late::Put(path, payload, options) => {
                let landed = self.objects.put_opts(&path, payload, options).await;
                if landed.is_ok() {
                    self.made(&path);
                }
            }
            Late::Copy(from, to, options) => drop(self.objects.copy_opts(&from, &to, options).await),
            Late::Delete(path) => drop(self.objects.delete(&path).await),
        }
    }

    fn fate(&self, write: Write, path: &Path) -> Fate {
        let mut state = locked(&self.state);
        let Faults { before, after, late, .. } = state.faults;
        let answer = state.answer();
        let scripted = |(what, part, _): &(Write, String, Meets)| *what == write && path.as_ref().contains(part);
        if let Some(place) = state.script.iter().position(scripted) {
            return match state.script.remove(place).2 {
                Meets::Loss => Fate::Before(answer),
                Meets::Delay => Fate::Late(u64::MAX, answer),
            };
        }
        if state.hit("before", before) {
            Fate::Before(answer)
        } else if state.hit("after", after) {
            Fate::After(answer)
        } else if state.hit("late", late) {
            Fate::Late(state.operations + 1 + state.dice.below(LATE_OPERATIONS_MAX), answer)
        } else {
            Fate::Well
        }
    }

    fn later(&self, at: u64, late: Late) {
        locked(&self.state).late.push((at, late));
    }

    fn made(&self, path: &Path) {
        let mut state = locked(&self.state);
        let now = state.operations;
        state.made.insert(path.clone(), now);
    }

    fn read_fault(&self) -> Option<Error> {
        let mut state = locked(&self.state);
        let read = state.faults.read;
        state.hit("read", read).then(|| state.answer())
    }

    /// Returns what a create is told that is refused without reason.
    fn refusal(&self, path: &Path) -> Option<(bool, Error)> {
        let mut state = locked(&self.state);
        let Faults { refused, own, .. } = state.faults;
        let (landed, hit) = match state.hit("refused", refused) {
            true => (false, true),
            false => (true, state.hit("own", own)),
        };
        let (path, source) = (path.to_string(), "ConditionalRequestConflict".into());
        hit.then(|| match state.dice.below(3) {
            0 => (landed, Error::Precondition { path, source }),
            _ => (landed, Error::AlreadyExists { path, source }),
        })
    }

    /// Hides what a listing that lags does not know.
    fn listed(&self, found: Vec<ObjectMeta>) -> Vec<ObjectMeta> {
        let mut state = locked(&self.state);
        let lag = state.faults.lag;
        if !state.hit("lag", lag) {
            return found;
        }
        let now = state.operations;
        let is_old = |meta: &ObjectMeta| state.made.get(&meta.location).is_none_or(|made| made + LAG_OPERATIONS < now);
        found.into_iter().filter(is_old).collect()
    }
}

impl State {
    fn hit(&mut self, what: &'static str, chances: u64) -> bool {
        let hit = self.dice.hits(chances);
        if hit {
            *self.met.entry(what).or_default() += 1;
        }
        hit
    }

    fn answer(&mut self) -> Error {
        let place = usize::try_from(self.dice.below(ANSWERS.len() as u64)).unwrap_or(0);
        Error::Generic { store: "fault", source: ANSWERS[place].into() }
    }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store of faults")
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, path: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.begin().await;
        if locked(&self.state).overwrites {
            options.mode = PutMode::Overwrite;
        }
        if options.mode == PutMode::Create
            && let Some((lands, error)) = self.refusal(path)
        {
            if lands && self.objects.put_opts(path, payload, options).await.is_ok() {
                self.made(path);
            }
            return Err(error);
        }
        let fate = self.fate(Write::Put, path);
        match fate {
            Fate::Before(error) => return Err(error),
            Fate::Late(at, error) => {
                self.later(at, Late::Put(path.clone(), payload, options));
                return Err(error);
            }
            Fate::Well | Fate::After(_) => {}
        }
        let put = self.objects.put_opts(path, payload, options).await;
        if put.is_ok() {
            self.made(path);
        }
        if let Fate::After(error) = fate { Err(error) } else { put }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.begin().await;
        if let Fate::Before(error) | Fate::After(error) | Fate::Late(_, error) = self.fate(Write::Put, path) {
            return Err(error);
        }
        let upload = self.objects.put_multipart_opts(path, options).await?;
        let (lost, complete) = {
            let mut state = locked(&self.state);
            // Said now, for the store is not asked again. Uploads are few, and so fail more often.
            let chances = 4 * state.faults.before;
            let part = state.hit("part", chances).then(|| state.dice.below(3));
            let before = state.hit("complete before", chances);
            let after = !before && state.hit("complete after", chances);
            (part.map(|part| (part, state.answer())), (before || after).then(|| (after, state.answer())))
        };
        self.made(path);
        Ok(Box::new(FaultUpload { upload, lost, complete }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.begin().await;
        if let Some(error) = self.read_fault() {
            return Err(error);
        }
        let is_head = options.head;
        let mut found = self.objects.get_opts(path, options).await?;
        let cut = {
            let mut state = locked(&self.state);
            state.bytes_asked += if is_head { 0 } else { found.range.end - found.range.start };
            let cut = state.faults.cut;
            state.hit("cut", cut).then(|| state.answer())
        };
        if let Some(error) = cut {
            let GetResult { range, payload, .. } = found;
            let GetResultPayload::Stream(body) = payload else { return Err(error) };
            let whole: Vec<Bytes> = body.try_collect().await?;
            let half = whole.concat();
            let half = Bytes::from(half).split_to(usize::try_from((range.end - range.start) / 2).unwrap_or(0));
            found.payload = GetResultPayload::Stream(futures::stream::iter([Ok(half), Err(error)]).boxed());
            found.range = range;
        }
        Ok(found)
    }

    async fn get_ranges(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.begin().await;
        match self.read_fault() {
            Some(error) => Err(error),
            None => {
                locked(&self.state).bytes_asked += ranges.iter().map(|range| range.end - range.start).sum::<u64>();
                self.objects.get_ranges(path, ranges).await
            }
        }
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // In memory the stream is ready at once; its fate is thrown for all of it.
        let Some(Ok(paths)) = paths.try_collect::<Vec<_>>().now_or_never() else {
            let error = Error::Generic { store: "fault", source: "names to delete are not at hand".into() };
            return futures::stream::once(async { Err(error) }).boxed();
        };
        let Some(first) = paths.first() else { return futures::stream::empty().boxed() };
        let (objects, fate) = (Arc::clone(&self.objects), self.fate(Write::Delete, first));
        let deleted = |paths: Vec<Path>| objects.delete_stream(futures::stream::iter(paths).map(Ok).boxed());
        match fate {
            Fate::Well => deleted(paths),
            Fate::Before(error) => futures::stream::once(async { Err(error) }).boxed(),
            Fate::Late(at, error) => {
                paths.into_iter().for_each(|path| self.later(at, Late::Delete(path)));
                futures::stream::once(async { Err(error) }).boxed()
            }
            Fate::After(error) => {
                let deleted = deleted(paths);
                futures::stream::once(async move {
                    drop(deleted.collect::<Vec<_>>().await);
                    Err(error)
                })
                .boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some(error) = self.read_fault() {
            let found = self.objects.list(prefix).take(3);
            return found.chain(futures::stream::once(async { Err(error) })).boxed();
        }
        // In memory it is ready at once.
        match self.objects.list(prefix).try_collect::<Vec<_>>().now_or_never() {
            Some(Ok(found)) => futures::stream::iter(self.listed(found).into_iter().map(Ok)).boxed(),
            _ => self.objects.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.begin().await;
        if let Some(error) = self.read_fault() {
            return Err(error);
        }
        let mut found = self.objects.list_with_delimiter(prefix).await?;
        found.objects = self.listed(found.objects);
        Ok(found)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.begin().await;
        let fate = self.fate(Write::Copy, to);
        match fate {
            Fate::Before(error) => return Err(error),
            Fate::Late(at, error) => {
                self.later(at, Late::Copy(from.clone(), to.clone(), options));
                return Err(error);
            }
            Fate::Well | Fate::After(_) => {}
        }
        let copied = self.objects.copy_opts(from, to, options).await;
        self.made(to);
        if let Fate::After(error) = fate { Err(error) } else { copied }
    }
}

/// An upload in parts, some of which never arrive.
#[derive(Debug)]
struct FaultUpload {
    upload: Box<dyn MultipartUpload>,
    /// The part that does not arrive, counted down.
    lost: Option<(u64, Error)>,
    /// What completing says, and whether it happens.
    complete: Option<(bool, Error)>,
}

#[async_trait]
impl MultipartUpload for FaultUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        match self.lost.take() {
            Some((0, error)) => return async { Err(error) }.boxed(),
            later => self.lost = later.map(|(parts, error)| (parts - 1, error)),
        }
        self.upload.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.complete.take() {
            None => self.upload.complete().await,
            Some((happens, error)) => {
                if happens {
                    self.upload.complete().await?;
                }
                Err(error)
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

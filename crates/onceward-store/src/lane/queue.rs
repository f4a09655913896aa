//! One lane: a queue, a few batches in flight, and what to do when one of them goes wrong.

use core::iter::repeat_n;
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use onceward_core::{Code, Error, Result, backoff, limits};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout_at};

use super::verbs::{Marks, Verb};
use super::work::Work;
use crate::{Store, insist};

/// How many rows may be out one by one at the same time. Each holds a connection for up to a lock timeout.
const SOLO_IN_FLIGHT_MAX: usize = 2;
/// How long a key that was found locked travels apart from the others.
const QUARANTINE: Duration = Duration::from_secs(2);
/// How long an ask whose effect is unknown is looked after when its caller has been told so.
const DOUBT_MAX: Duration = Duration::from_secs(60);
/// What went wrong a moment ago is given a moment.
const DOUBT_FIRST: Duration = Duration::from_millis(50);

/// How long a caller waits before it makes sure that there is a sender.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How often a sender lets others go first, at most.
const YIELDS_MAX: usize = 8;

pub(super) struct Lane<V: Verb> {
    shared: Arc<Shared<V>>,
}

impl<V: Verb> Clone for Lane<V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<V: Verb> {
    store: Arc<dyn Store>,
    work: Work,
    batches_max: usize,
    /// How many rows must wait for a batch to go beside another one.
    beside_from: usize,
    hasher: RandomState,
    state: Mutex<State<V>>,
}

struct State<V: Verb> {
    waiting: VecDeque<Entry<V>>,
    /// Rows that go out one by one: of batches that failed, and of keys in quarantine.
    solo: VecDeque<Entry<V>>,
    batches: usize,
    solos: usize,
    /// What rows that are out now are about. Another row about the same waits its turn.
    out: HashSet<u64>,
    quarantine: HashMap<u64, Instant>,
    /// Rows whose callers have left, and which an earlier send may have granted.
    orphans: Vec<V::Item>,
}

struct Entry<V: Verb> {
    item: V::Item,
    marks: Marks,
    deadline: Instant,
    reply: oneshot::Sender<Result<Delivery<V>>>,
    /// Whether an earlier send may have taken effect although no answer came.
    doubt: bool,
}

impl<V: Verb> Lane<V> {
    pub(super) fn new(store: &Arc<dyn Store>, work: &Work) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            solo: VecDeque::new(),
            batches: 0,
            solos: 0,
            out: HashSet::new(),
            quarantine: HashMap::new(),
            orphans: Vec::new(),
        };
        let (batches_max, beside_from) = V::in_flight(&store.capabilities());
        let shared = Shared {
            batches_max,
            beside_from,
            store: Arc::clone(store),
            work: work.clone(),
            hasher: RandomState::new(),
            state: Mutex::new(state),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Sends one row and waits for its answer.
    pub(super) async fn call(&self, item: V::Item, within: Duration) -> Result<V::Answer> {
        let (reply, mut answer) = oneshot::channel();
        let marks = V::marks(&item, &self.shared.hasher);
        let deadline = Instant::now() + within;
        self.shared.enqueue(Entry { item, marks, deadline, reply, doubt: false })?;
        self.shared.pump();
        // A batch tells its callers of their deadline itself; the grace is for a store that does not answer at all.
        let last = deadline + Duration::from_millis(250);
        loop {
            match timeout_at(last.min(Instant::now() + LOOK_AGAIN), &mut answer).await {
                Ok(Ok(delivery)) => return delivery.map(Delivery::take),
                Ok(Err(_)) => {
                    let error = Error::new(Code::StoreClosed, "the client was shut down during the call");
                    return Err(error.uncertain());
                }
                Err(_) if Instant::now() >= last => {
                    let error = Error::new(Code::StoreUnavailable, "the store did not answer in time");
                    return Err(error.uncertain());
                }
                // The sender that was to take the row along may have gone with its runtime.
                Err(_) => self.shared.pump(),
            }
        }
    }
}

impl<V: Verb> Shared<V> {
    fn lock(&self) -> MutexGuard<'_, State<V>> {
        // Nothing panics while it holds the lock; if it did, the queue would still be a queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, entry: Entry<V>) -> Result<()> {
        let mut state = self.lock();
        if state.waiting.len() + state.solo.len() >= limits::LANE_WAITING_MAX {
            let max = limits::LANE_WAITING_MAX;
            return Err(Error::new(Code::LaneFull, format!("{max} calls are waiting for the store already")));
        }
        if state.is_in_quarantine(entry.marks) {
            state.solo.push_back(entry);
        } else {
            state.waiting.push_back(entry);
        }
        Ok(())
    }

    /// Starts as many senders as there is work and room for.
    fn pump(self: &Arc<Self>) {
        let (batches, solos, orphans) = self.open();
        // Not under the lock: a runtime that is going away drops what it is given at once.
        for solo in
            [(false, batches), (true, solos)].into_iter().flat_map(|(solo, some)| repeat_n(solo, some))
        {
            let place = Place { shared: Arc::clone(self), solo, taken: false };
            match solo {
                true => self.work.spawn(Arc::clone(self).send_solos(place)),
                false => self.work.spawn(Arc::clone(self).send_batches(place)),
            };
        }
        for item in orphans {
            self.work.spawn(Arc::clone(self).resolve_doubt(item));
        }
    }

    /// Opens places for as many senders as there is work and room for: of batches, and of single rows. With them come
    /// the rows that have to be looked after.
    fn open(&self) -> (usize, usize, Vec<V::Item>) {
        let mut state = self.lock();
        let enough = state.batches == 0 || state.waiting.len() >= self.beside_from;
        let batches = usize::from(state.batches < self.batches_max && enough && state.is_ready());
        let wanted = if state.is_solo_ready() { state.solo.len().min(SOLO_IN_FLIGHT_MAX) } else { 0 };
        let solos = wanted.saturating_sub(state.solos);
        state.batches += batches;
        state.solos += solos;
        (batches, solos, core::mem::take(&mut state.orphans))
    }

    /// Sends batch after batch until nothing waits.
    async fn send_batches(self: Arc<Self>, mut place: Place<V>) {
        place.taken = true;
        loop {
            // Whoever is ready to call gets to do so first: that is what fills the batch, without a timer.
            self.gather().await;
            let batch = self.take_batch();
            if batch.is_empty() {
                drop(place);
                return;
            }
            // There may be room for a second batch beside this one.
            self.pump();
            self.send(Batch::new(&self, batch)).await;
        }
    }

    /// What goes out next; nothing where another sender is about to take it along with more.
    fn take_batch(&self) -> Vec<Entry<V>> {
        let mut state = self.lock();
        let enough = state.batches <= 1 || state.waiting.len() >= self.beside_from;
        if enough { state.take_batch() } else { Vec::new() }
    }

    /// Lets others go first for as long as calls keep coming.
    async fn gather(&self) {
        let mut waiting = self.lock().waiting.len();
        for _ in 0..YIELDS_MAX {
            tokio::task::yield_now().await;
            let now = self.lock().waiting.len();
            if now <= waiting {
                return;
            }
            waiting = now;
        }
    }

    /// Sends rows one by one until none is left.
    async fn send_solos(self: Arc<Self>, mut place: Place<V>) {
        place.taken = true;
        loop {
            let Some(entry) = self.lock().take_solo() else {
                drop(place);
                return;
            };
            self.send(Batch::new(&self, vec![entry])).await;
        }
    }

    /// Sends one batch until it is answered, split, or out of time.
    async fn send(self: &Arc<Self>, mut batch: Batch<V>) {
        for attempt in 0_u32.. {
            let error = match V::run(&*self.store, &batch.items).await {
                Ok(answers) => return batch.deliver(answers).await,
                Err(error) => error,
            };
            let alone = batch.items.len() == 1;
            let locked = error.code() == Code::KeyLocked;
            batch.note(&error);
            if locked && alone {
                batch.quarantine();
            }
            if !error.is_retryable() || (locked && !(alone && V::INSISTS)) {
                return if alone { batch.refuse(&error) } else { batch.split(V::GRANTS) };
            }
            let seed = self.hasher.hash_one(attempt);
            sleep(backoff::delay(attempt, Duration::from_millis(5), Duration::from_millis(500), seed)).await;
            // After the pause: whoever has left meanwhile is not asked for again.
            batch.drop_overdue(&error);
            if batch.items.is_empty() {
                return;
            }
            if locked {
                // Others may be behind it that nobody holds: it goes to the end of the line.
                return batch.split(false);
            }
        }
    }
}

impl<V: Verb> State<V> {
    fn take_batch(&mut self) -> Vec<Entry<V>> {
        let mut batch = Vec::new();
        let (mut bytes, mut stay) = (0, VecDeque::new());
        while let Some(entry) = self.waiting.pop_front() {
            if entry.reply.is_closed() {
                self.leave(entry);
                continue;
            }
            let weight = V::weight(&entry.item);
            if !batch.is_empty() && weight.saturating_add(bytes) > limits::BATCH_BYTES_MAX {
                stay.push_back(entry);
                break;
            }
            if !self.take_out(entry.marks) {
                stay.push_back(entry);
                // A key everybody wants is not looked for behind a thousand others of its kind at every turn.
                if stay.len() >= limits::BATCH_ROWS_MAX * 2 {
                    break;
                }
                continue;
            }
            bytes = weight.saturating_add(bytes);
            batch.push(entry);
            if batch.len() >= limits::BATCH_ROWS_MAX {
                break;
            }
        }
        while let Some(entry) = stay.pop_back() {
            self.waiting.push_front(entry);
        }
        batch
    }

    /// Whether a sender would find something to send. Behind a thousand rows of keys that are out it does not look.
    fn is_ready(&self) -> bool {
        self.waiting.iter().take(limits::BATCH_ROWS_MAX * 2).any(|entry| !self.is_out(entry.marks))
    }

    /// As [`is_ready`](Self::is_ready), for the rows that go out one by one.
    fn is_solo_ready(&self) -> bool {
        self.solo.iter().take(limits::BATCH_ROWS_MAX * 2).any(|entry| !self.is_out(entry.marks))
    }

    fn is_out(&self, marks: Marks) -> bool {
        marks.into_iter().flatten().any(|mark| self.out.contains(&mark))
    }

    /// Marks what a row is about as being out; `false` if some of it is out already.
    fn take_out(&mut self, marks: Marks) -> bool {
        let free = !self.is_out(marks);
        if free {
            self.out.extend(marks.into_iter().flatten());
        }
        free
    }

    fn take_back(&mut self, marks: Marks) {
        for mark in marks.into_iter().flatten() {
            self.out.remove(&mark);
        }
    }

    fn is_in_quarantine(&self, marks: Marks) -> bool {
        if self.quarantine.is_empty() {
            return false;
        }
        let now = Instant::now();
        marks.into_iter().flatten().any(|mark| self.quarantine.get(&mark).is_some_and(|until| *until > now))
    }

    /// Somebody has left: what an earlier send may have granted has to be looked after.
    fn leave(&mut self, entry: Entry<V>) {
        if entry.doubt && V::GRANTS {
            self.orphans.push(entry.item);
        }
    }

    fn take_solo(&mut self) -> Option<Entry<V>> {
        for _ in 0..self.solo.len() {
            let Some(entry) = self.solo.pop_front() else { break };
            if entry.reply.is_closed() { self.leave(entry) } else { self.solo.push_back(entry) }
        }
        let at = self.solo.iter().position(|entry| !self.is_out(entry.marks))?;
        let entry = self.solo.remove(at)?;
        self.take_out(entry.marks);
        Some(entry)
    }
}

/// A sender's place, given up when it ends, however it ends.
struct Place<V: Verb> {
    shared: Arc<Shared<V>>,
    solo: bool,
    /// Whether the sender has begun.
    taken: bool,
}

impl<V: Verb> Drop for Place<V> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if self.solo {
            state.solos -= 1;
        } else {
            state.batches -= 1;
        }
        drop(state);
        // Somebody may have come between the last look into the queue and now. A sender that never began was dropped by
        // a runtime that is going away, and so would be the next one: a caller that lives looks for itself.
        if self.taken {
            self.shared.pump_if_possible();
        }
    }
}

/// Rows that are out, and those who wait for them. Dropping it, finished or not, lets their keys go.
struct Batch<V: Verb> {
    shared: Arc<Shared<V>>,
    items: Vec<V::Item>,
    callers: Vec<Caller<V>>,
}

struct Caller<V: Verb> {
    marks: Marks,
    deadline: Instant,
    reply: oneshot::Sender<Result<Delivery<V>>>,
    doubt: bool,
}

impl<V: Verb> Batch<V> {
    fn new(shared: &Arc<Shared<V>>, entries: Vec<Entry<V>>) -> Self {
        let split =
            |Entry { item, marks, deadline, reply, doubt }| (item, Caller { marks, deadline, reply, doubt });
        let (items, callers) = entries.into_iter().map(split).unzip();
        Self { shared: Arc::clone(shared), items, callers }
    }

    fn free_keys(&mut self) -> Vec<Caller<V>> {
        let callers = core::mem::take(&mut self.callers);
        if callers.is_empty() {
            return callers;
        }
        let mut state = self.shared.lock();
        for caller in &callers {
            state.take_back(caller.marks);
        }
        drop(state);
        // Others may have waited for these keys.
        self.shared.pump_if_possible();
        callers
    }

    /// Remembers what an error leaves open. A grant that is told to be locked was not made before either: the same
    /// session would have found it.
    fn note(&mut self, error: &Error) {
        let refused = V::GRANTS && error.code() == Code::KeyLocked && self.items.len() == 1;
        for caller in &mut self.callers {
            caller.doubt = !refused && (caller.doubt || error.is_uncertain());
        }
    }

    async fn deliver(mut self, mut answers: Vec<V::Answer>) {
        debug_assert_eq!(answers.len(), self.items.len(), "a store answers every row");
        let store = Arc::clone(&self.shared.store);
        let rows = self.callers.iter().zip(&self.items).zip(&mut answers);
        let doubted = rows.filter(|((caller, _), _)| caller.doubt && !caller.reply.is_closed());
        join_all(doubted.map(|((_, item), answer)| V::reconsider(&*store, item, answer))).await;
        for (caller, answer) in self.free_keys().into_iter().zip(answers) {
            let delivery = Delivery { shared: Arc::clone(&self.shared), answer: Some(answer) };
            // A caller that is gone drops the delivery, and that undoes it.
            let _ = caller.reply.send(Ok(delivery));
        }
    }

    fn refuse(mut self, error: &Error) {
        for (caller, item) in self.free_keys().into_iter().zip(core::mem::take(&mut self.items)) {
            self.shared.tell(caller, item, error);
        }
    }

    /// Sends the rows out one by one. `granted`: others of the batch may have been granted before the store gave up on
    /// one of them.
    fn split(mut self, granted: bool) {
        let callers = self.free_keys();
        let items = core::mem::take(&mut self.items);
        let mut state = self.shared.lock();
        for (Caller { marks, deadline, reply, doubt }, item) in callers.into_iter().zip(items) {
            state.solo.push_back(Entry { item, marks, deadline, reply, doubt: doubt || granted });
        }
        drop(state);
        self.shared.pump();
    }

    fn quarantine(&self) {
        let mut state = self.shared.lock();
        let now = Instant::now();
        state.quarantine.retain(|_, until| *until > now);
        for mark in self.callers.iter().flat_map(|caller| caller.marks).flatten() {
            state.quarantine.insert(mark, now + QUARANTINE);
        }
    }

    /// Takes out the rows whose time is over, and those nobody waits for.
    fn drop_overdue(&mut self, error: &Error) {
        let now = Instant::now();
        let rows = core::mem::take(&mut self.items).into_iter().zip(core::mem::take(&mut self.callers));
        for (item, caller) in rows {
            if caller.deadline > now && !caller.reply.is_closed() {
                self.items.push(item);
                self.callers.push(caller);
            } else {
                self.shared.lock().take_back(caller.marks);
                self.shared.tell(caller, item, error);
            }
        }
        self.shared.pump_if_possible();
    }
}

impl<V: Verb> Drop for Batch<V> {
    fn drop(&mut self) {
        drop(self.free_keys());
    }
}

impl<V: Verb> Shared<V> {
    /// Tells one caller of an error; looks after what its row may have left behind.
    fn tell(self: &Arc<Self>, caller: Caller<V>, item: V::Item, error: &Error) {
        let error = if caller.doubt { error.clone().uncertain() } else { error.clone() };
        let doubt = V::GRANTS && error.is_uncertain();
        // Nobody listening is fine: the row is looked after all the same.
        let _ = caller.reply.send(Err(error));
        if doubt {
            self.work.spawn(Arc::clone(self).resolve_doubt(item));
        }
    }

    /// As [`pump`](Self::pump), where something is dropped: perhaps with the runtime.
    fn pump_if_possible(self: &Arc<Self>) {
        if Handle::try_current().is_ok() {
            self.pump();
        }
    }
}

impl<V: Verb> Shared<V> {
    /// Asks again, with the same session, until the store answers, and gives back what it had granted (L7).
    async fn resolve_doubt(self: Arc<Self>, item: V::Item) {
        let item = V::only_what_was(item);
        sleep(DOUBT_FIRST).await;
        let answers = insist(DOUBT_MAX, || V::run(&*self.store, core::slice::from_ref(&item))).await;
        for answer in answers.unwrap_or_default() {
            drop(Delivery { shared: Arc::clone(&self), answer: Some(answer) });
        }
    }

    /// Gives back what was granted to nobody, trying for a while; after that it runs out by itself.
    async fn undo(self: Arc<Self>, answer: V::Answer) {
        if let Err(error) = insist(DOUBT_MAX, || V::undo(&*self.store, &answer)).await {
            tracing::debug!(%error, "an abandoned grant could not be given back and will run out");
        }
    }
}

/// An answer on its way. Whoever takes it keeps it; if nobody does, what it granted is undone.
struct Delivery<V: Verb> {
    shared: Arc<Shared<V>>,
    answer: Option<V::Answer>,
}

impl<V: Verb> Delivery<V> {
    #[expect(clippy::expect_used, reason = "`take` and `drop` both end the delivery")]
    fn take(mut self) -> V::Answer {
        // invariant: `answer` is `Some` until `take` or `drop`, and both end the delivery.
        self.answer.take().expect("an answer is taken once")
    }
}

impl<V: Verb> Drop for Delivery<V> {
    fn drop(&mut self) {
        let Some(answer) = self.answer.take().filter(V::undoable) else { return };
        // Without a runtime the grant runs out by itself.
        if Handle::try_current().is_ok() {
            self.shared.work.spawn(Arc::clone(&self.shared).undo(answer));
        }
    }
}

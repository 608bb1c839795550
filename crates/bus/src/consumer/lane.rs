//! The queue of one partition between the Kafka thread and the worker. It guarantees a bound in
//! messages and bytes; order is the order of arrival.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Place;
use super::offsets::Position;
use crate::envelope::Delivery;

/// Most bytes of data that wait in a lane.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The messages of one partition that wait for their worker.
pub(super) struct Lane {
    pub place: Place,
    /// The position from which this lane is read.
    pub start: i64,
    /// Starts at that position that did not get on.
    pub starts: i32,
    capacity: usize,
    queue: Mutex<Queue>,
    filled: Notify,
    room: Condvar,
    ended: CancellationToken,
    committed: AtomicI64,
    /// Boot time in milliseconds at which the running transaction began; 0 while there is none.
    busy_since: AtomicU64,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Delivery>,
    bytes: usize,
}

impl Lane {
    pub fn new(position: Position, capacity: usize) -> Self {
        Self {
            place: position.place,
            start: position.next_offset,
            starts: position.starts,
            capacity,
            queue: Mutex::default(),
            filled: Notify::new(),
            room: Condvar::new(),
            ended: CancellationToken::new(),
            committed: AtomicI64::new(position.next_offset),
            busy_since: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, queue: &Queue) -> bool {
        queue.messages.len() >= self.capacity || queue.bytes >= BYTES_MAX
    }

    /// Adds a message, whether there is room or not. Says whether the lane is full now.
    pub fn push(&self, message: Delivery) -> bool {
        let mut queue = self.lock();
        queue.bytes += size(&message);
        queue.messages.push_back(message);
        let full = self.is_full(&queue);
        let first = queue.messages.len() == 1;
        drop(queue);
        if first {
            self.filled.notify_one();
        }
        full
    }

    /// Waits for room; blocks the thread. Says whether there is some.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let queue = self.lock();
        let (queue, _) = self
            .room
            .wait_timeout_while(queue, patience, |queue| {
                self.is_full(queue) && !self.ended.is_cancelled()
            })
            .unwrap_or_else(PoisonError::into_inner);
        !self.is_full(&queue)
    }

    /// Whether enough was taken to begin fetching again.
    pub fn is_half_empty(&self) -> bool {
        let queue = self.lock();
        queue.messages.len() * 2 <= self.capacity && queue.bytes * 2 <= BYTES_MAX
    }

    /// Takes what is there, at most `limit` messages; waits only while there is nothing. `None`
    /// once the lane has ended.
    pub async fn take(&self, limit: usize) -> Option<Vec<Delivery>> {
        loop {
            let filled = self.filled.notified();
            if self.ended.is_cancelled() {
                return None;
            }
            let batch = self.take_now(limit);
            if !batch.is_empty() {
                return Some(batch);
            }
            tokio::select! {
                () = filled => {}
                () = self.ended.cancelled() => return None,
            }
        }
    }

    fn take_now(&self, limit: usize) -> Vec<Delivery> {
        let mut queue = self.lock();
        let count = queue.messages.len().min(limit);
        let batch: Vec<_> = queue.messages.drain(..count).collect();
        queue.bytes = queue.bytes.saturating_sub(batch.iter().map(size).sum());
        if queue.messages.is_empty() {
            queue.messages.shrink_to(64);
            queue.bytes = 0;
        }
        drop(queue);
        self.room.notify_one();
        batch
    }

    /// Puts messages back to the front.
    pub fn put_back(&self, messages: Vec<Delivery>) {
        let mut queue = self.lock();
        queue.bytes += messages.iter().map(size).sum::<usize>();
        for message in messages.into_iter().rev() {
            queue.messages.push_front(message);
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Nothing more is taken from here.
    pub fn end(&self) {
        self.ended.cancel();
        self.room.notify_all();
    }

    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    pub fn set_committed(&self, next_offset: i64) {
        self.committed.store(next_offset, Ordering::Release);
    }

    pub fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    pub fn set_busy(&self, since: Option<Duration>) {
        let millis = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.busy_since.store(millis, Ordering::Release);
    }

    /// How long the running transaction has been running.
    pub fn busy_for(&self, now: Duration) -> Duration {
        match self.busy_since.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            since => now.saturating_sub(Duration::from_millis(since)),
        }
    }
}

fn size(message: &Delivery) -> usize {
    match message {
        Delivery::Event(event) => event.data.len() + 256,
        Delivery::Malformed(_) => 64,
    }
}

//! The open connections of a server: at most 16, of which an idle one makes room for one more.
//!
//! ```text
//! 16 open, 2 of them idle  ->  the older idle one is shut down, and its slot is given to the next
//! ```

use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The maximum number of open connections.
pub(super) const MAX_CONNECTIONS: usize = 16;

/// The maximum number of them that are streams of events: the others stay for requests.
const MAX_STREAMS: usize = 8;

#[derive(Debug, Default)]
pub(super) struct ConnectionPool {
    state: Mutex<PoolState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PoolState {
    is_closing: bool,
    last_id: u64,
    /// Oldest first.
    connections: Vec<PooledConnection>,
}

#[derive(Debug)]
struct PooledConnection {
    id: u64,
    stream: Arc<TcpStream>,
    is_being_answered: bool,
    is_stream: bool,
}

impl PooledConnection {
    /// Shuts down the read side, so that the thread of the connection ends.
    fn shut_down_read(&self) {
        // An error means that the connection has already ended.
        self.stream.shutdown(Shutdown::Read).ok();
    }
}

impl ConnectionPool {
    fn lock_state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock_state().is_closing
    }

    /// Adds a connection as soon as a slot is free. Returns `None` if the server is stopping.
    pub(super) fn admit_connection(
        pool: &Arc<ConnectionPool>,
        stream: &Arc<TcpStream>,
    ) -> Option<ConnectionSlot> {
        let mut open = pool.lock_state();
        while open.connections.len() >= MAX_CONNECTIONS && !open.is_closing {
            if let Some(idle) = open.connections.iter().find(|guest| !guest.is_being_answered) {
                idle.shut_down_read();
            }
            open = pool.changed.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
        if open.is_closing {
            return None;
        }
        open.last_id += 1;
        let id = open.last_id;
        open.connections.push(PooledConnection {
            id,
            stream: Arc::clone(stream),
            is_being_answered: false,
            is_stream: false,
        });
        drop(open);
        Some(ConnectionSlot { pool: Arc::clone(pool), id })
    }

    pub(super) fn close(&self) {
        let mut open = self.lock_state();
        open.is_closing = true;
        open.connections.iter().for_each(PooledConnection::shut_down_read);
        self.changed.notify_all();
    }

    pub(super) fn wait_until_empty(&self, longest: Duration) {
        let wait = self
            .changed
            .wait_timeout_while(self.lock_state(), longest, |open| !open.connections.is_empty());
        drop(wait);
    }
}

/// The slot of one connection, freed on drop.
pub(super) struct ConnectionSlot {
    pool: Arc<ConnectionPool>,
    id: u64,
}

impl ConnectionSlot {
    /// Counts the connection as a stream of events, unless there are enough of them.
    pub(super) fn start_stream(&self) -> bool {
        let mut open = self.pool.lock_state();
        if open.connections.iter().filter(|guest| guest.is_stream).count() >= MAX_STREAMS {
            return false;
        }
        if let Some(guest) = open.connections.iter_mut().find(|guest| guest.id == self.id) {
            guest.is_stream = true;
        }
        true
    }

    pub(super) fn set_being_answered(&self, yes: bool) {
        let mut open = self.pool.lock_state();
        if let Some(guest) = open.connections.iter_mut().find(|guest| guest.id == self.id) {
            guest.is_being_answered = yes;
        }
        self.pool.changed.notify_all();
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.pool.lock_state().connections.retain(|guest| guest.id != self.id);
        self.pool.changed.notify_all();
    }
}

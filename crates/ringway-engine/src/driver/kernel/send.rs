//! Sending: the cork, the optimistic try, the queue of what the kernel did not take, and how a connection closes.

use std::io;

use super::{Core, Phase, Rare, flag};
use crate::{ConnectionId, Event, SendError, sys};

/// Small sends of one call up to this size leave together.
const CORK_BYTES: usize = 16 << 10;

impl Core {
    pub(crate) fn send_bytes(&mut self, id: ConnectionId, bytes: &[u8]) -> Result<usize, SendError> {
        let Some(index) = self.place(id) else { return Err(SendError::Closed) };
        let entry = self.entry(index);
        if entry.phase() != Phase::Open || entry.has(flag::SHUT) {
            return Err(SendError::Closed);
        }
        if entry.has(flag::BLOCKED) {
            self.queue(index, bytes);
        } else {
            if self.corked != id || self.cork.len() + bytes.len() > CORK_BYTES {
                self.flush_cork();
                // The flush may have found the connection broken, or full.
                match self.place(id) {
                    None => return Err(SendError::Closed),
                    Some(index) if self.entry(index).has(flag::BLOCKED) => {
                        self.queue(index, bytes);
                        return Ok(self.outbound(index));
                    }
                    Some(_) => {}
                }
            }
            if bytes.len() > CORK_BYTES {
                self.try_send(index, bytes);
            } else {
                self.cork.extend_from_slice(bytes);
                self.corked = id;
            }
        }
        Ok(self.place(id).map_or(0, |index| self.outbound(index)))
    }

    /// Sends what small sends have gathered.
    pub(crate) fn flush_cork(&mut self) {
        if self.cork.is_empty() {
            return;
        }
        let id = std::mem::replace(&mut self.corked, ConnectionId::NONE);
        let bytes = std::mem::take(&mut self.cork);
        if let Some(index) = self.place(id) {
            self.try_send(index, &bytes);
        }
        // Keep the memory for the next call.
        self.cork = bytes;
        self.cork.clear();
    }

    /// Sends on an open connection with nothing queued; what the kernel does not take is queued.
    fn try_send(&mut self, index: u32, bytes: &[u8]) {
        let Some(fd) = self.entry(index).fd() else { return };
        match sys::send(fd, bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => {
                self.queue(index, &bytes[sent..]);
                self.block(index);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.queue(index, bytes);
                self.block(index);
            }
            Err(error) => self.fail(index, error),
        }
    }

    /// Bytes on their way to a connection.
    pub(crate) fn outbound(&self, index: u32) -> usize {
        self.rare(index).map_or(0, Rare::outbound)
    }

    /// Bytes taken from a connection and not yet delivered.
    pub(crate) fn held_bytes(&self, index: u32) -> usize {
        self.rare(index).map_or(0, |rare| rare.received.len())
    }

    /// Puts bytes behind those that wait.
    pub(crate) fn queue(&mut self, index: u32, bytes: &[u8]) {
        self.queued_total += bytes.len();
        let rare = self.rare_mut(index);
        if rare.start > 0 && rare.start >= rare.queue.len() / 2 {
            rare.queue.drain(..rare.start);
            rare.start = 0;
        }
        rare.queue.extend_from_slice(bytes);
    }

    /// Notes that the kernel took no more, and asks to be told when it does.
    pub(crate) fn block(&mut self, index: u32) {
        self.entry_mut(index).set(flag::BLOCKED);
        self.arm_write(index);
    }

    /// The same for one that may have been told long ago.
    pub(crate) fn block_anew(&mut self, index: u32) {
        let was_armed = self.entry(index).has(flag::WRITE_ARMED);
        self.block(index);
        if was_armed {
            self.rearm_write(index);
        }
    }

    /// A blocked connection can be written to: sends what waits for it. `Ok(true)`: all of it is gone.
    pub(crate) fn flush(&mut self, index: u32) -> io::Result<bool> {
        let Self { entries, rares, pipes, queued_total, piped_total, has_spliced, .. } = self;
        let entry = entries.get_mut(index).expect("an index of this table");
        let Some(fd) = entry.fd.as_ref() else { return Ok(true) };
        let fd = std::os::fd::AsFd::as_fd(fd);
        let Some(rare) = entry.rare().and_then(|place| rares.get_mut(place)) else {
            // It blocked while nothing might be queued for it: what was not sent is still at its source.
            entry.clear(flag::BLOCKED);
            return Ok(true);
        };
        let mut counted = 0;
        let result = loop {
            let waiting = rare.queued().len();
            if waiting == 0 {
                break Ok(true);
            }
            match sys::send(fd, rare.queued()) {
                Ok(sent) => {
                    rare.start += sent;
                    *queued_total -= sent;
                    let uncounted = rare.uncounted.min(sent);
                    rare.uncounted -= uncounted;
                    counted += sent - uncounted;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        let result = match result {
            Ok(true) => {
                rare.queue = Vec::new();
                rare.start = 0;
                loop {
                    let Some(pipe) = rare.pipe.as_ref() else { break Ok(true) };
                    if rare.piped == 0 {
                        pipes.give_back(rare.pipe.take().expect("the pipe just looked at"));
                        break Ok(true);
                    }
                    *has_spliced = true;
                    match sys::splice(pipe.read_end(), fd, rare.piped, false) {
                        Ok(moved) => {
                            rare.piped -= moved;
                            *piped_total -= moved;
                            counted += moved;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                        Err(error) => break Err(error),
                    }
                }
            }
            other => other,
        };
        let (peer, phase) = (entry.peer, entry.phase());
        if counted > 0 && matches!(phase, Phase::Relay | Phase::Breaking | Phase::Stopping) {
            self.entry_mut(peer).add_bytes(counted);
            self.touch(index);
        }
        if matches!(result, Ok(true)) {
            self.entry_mut(index).clear(flag::BLOCKED);
            self.tidy_rare(index);
        }
        result
    }

    /// Notes activity on a relayed connection.
    pub(crate) fn touch(&mut self, index: u32) {
        let now = self.activity_now();
        self.entry_mut(index).activity = now;
    }

    /// An open or closing connection can be written to.
    pub(crate) fn flush_open(&mut self, index: u32) {
        match self.flush(index) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.fail(index, error),
        }
        let entry = self.entry(index);
        let (connection, token) = (entry.id(index), entry.token);
        if entry.phase() == Phase::Closing {
            return self.finish_close(index);
        }
        if entry.has(flag::SHUT) {
            self.finish_shut(index);
        }
        self.events.push_back(Event::Writable { connection, token });
    }

    /// Sends FIN; everything before it has been handed to the kernel.
    pub(crate) fn finish_shut(&mut self, index: u32) {
        let entry = self.entry_mut(index);
        if entry.has(flag::SHUT_DONE) {
            return;
        }
        entry.set(flag::SHUT | flag::SHUT_DONE);
        if let Some(fd) = entry.fd() {
            // Fails only on a connection that is reset already, which the next read tells.
            let _ = sys::shutdown(fd, libc::SHUT_WR);
        }
    }

    /// Closes; everything has been handed to the kernel.
    pub(crate) fn finish_close(&mut self, index: u32) {
        let entry = self.entry(index);
        let (connection, token) = (entry.id(index), entry.token);
        self.release_and_close(index);
        self.events.push_back(Event::Closed { connection, token });
    }
}

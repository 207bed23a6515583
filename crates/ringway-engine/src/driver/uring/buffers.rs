//! The provided buffers: a ring that kernel and engine share, consumed incrementally where the kernel can.
//!
//! Few and small enough to stay in the second-level cache: every buffer is touched in turn.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use super::poller::BUFFER_GROUP;

/// Incremental consumption (Linux 6.12): `IOU_PBUF_RING_INC` of `linux/io_uring.h`.
const INCREMENTAL: u16 = 2;
const PAGE: usize = 4096;

/// The buffers of one engine.
pub(crate) struct BufferRing {
    /// `count` entries, page-aligned, then `count` buffers.
    memory: NonNull<u8>,
    layout: Layout,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    /// How far each buffer is consumed.
    offsets: Vec<usize>,
}

impl BufferRing {
    /// Registers buffers with a ring. They must be dropped after it is closed or never used again.
    pub(crate) fn register(ring: &IoUring) -> io::Result<Self> {
        // 1 MiB either way; without incremental consumption each chunk takes a buffer of its own.
        let (mut this, incremental) = (Self::allocate(16, 64 << 10), INCREMENTAL);
        let result = this.register_with(ring, incremental);
        if result.is_err() {
            this = Self::allocate(64, 16 << 10);
            this.register_with(ring, 0)?;
        }
        for buffer in 0..this.count {
            this.give(buffer);
        }
        Ok(this)
    }

    fn allocate(count: u16, buffer_bytes: usize) -> Self {
        let size = PAGE + usize::from(count) * buffer_bytes;
        let layout = Layout::from_size_align(size, PAGE).expect("a size far below the limit, a power of two");
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self { memory, layout, count, buffer_bytes, tail: 0, offsets: vec![0; usize::from(count)] }
    }

    fn register_with(&self, ring: &IoUring, flags: u16) -> io::Result<()> {
        let address = self.memory.as_ptr() as u64;
        let submitter = ring.submitter();
        // SAFETY: the first page of `memory` holds the entries; it lives until the engine that owns both drops
        // the ring first.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, BUFFER_GROUP, flags) }
    }

    fn address(&self, buffer: u16) -> *mut u8 {
        debug_assert!(buffer < self.count, "the kernel names buffers that it was given");
        let offset = PAGE + usize::from(buffer % self.count) * self.buffer_bytes;
        // SAFETY: the offset is inside the allocation.
        unsafe { self.memory.as_ptr().add(offset) }
    }

    /// The bytes that a completion put into a buffer.
    pub(crate) fn filled(&mut self, buffer: u16, length: usize) -> &mut [u8] {
        let offset = self.offsets[usize::from(buffer % self.count)];
        assert!(offset + length <= self.buffer_bytes, "the kernel fills a buffer only as far as it goes");
        // SAFETY: offset and length are inside the buffer (asserted).
        let start = unsafe { self.address(buffer).add(offset) };
        // SAFETY: the bytes are initialised (the allocation is zeroed) and the kernel is done with this part: it
        // said so by the completion, and writes only behind it, or to other buffers, until `advance` returns this.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }

    /// The bytes of a completion were handed on; the buffer goes back when the kernel is done with it.
    pub(crate) fn advance(&mut self, buffer: u16, length: usize, is_partial: bool) {
        let index = usize::from(buffer % self.count);
        if is_partial {
            self.offsets[index] += length;
        } else {
            self.offsets[index] = 0;
            self.give(buffer);
        }
    }

    fn give(&mut self, buffer: u16) {
        let address = self.address(buffer) as u64;
        let place = usize::from(self.tail % self.count);
        // SAFETY: the first page holds `count` entries of 16 bytes, and `place` is below `count` (at most 64).
        let entry = unsafe { self.memory.as_ptr().cast::<BufRingEntry>().add(place) };
        // SAFETY: the entry lies outside what the kernel reads now (behind the tail), is aligned and initialised.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        let first = self.memory.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `first` is the first entry of a registered ring.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: the tail is an aligned u16 inside the ring's page; the kernel only reads it, atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the driver's fields are dropped in order, the ring before this.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) };
    }
}

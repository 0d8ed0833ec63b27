//! The stored form of a chunk: raw bytes and the time of each line that begins in them, both zstd.
//!
//! Layout: `QWL1`, flags (1 byte, bit 0: the first byte begins a line), length of the packed times (4 bytes,
//! little endian), packed times, packed bytes. Times are zigzag varints of milliseconds, each against the one
//! before, the first against the epoch; lines begin behind each newline, so their offsets are not stored.

use bytes::Bytes;
use jiff::Timestamp;
use qwex_runner::LineTime;

const MAGIC: &[u8; 4] = b"QWL1";
const HEADER: usize = 9;
const BEGINS_LINE: u8 = 1;
/// 9 buys nothing over 3 on log lines.
const LEVEL: i32 = 3;
/// No chunk is longer, whatever its header says.
pub(super) const MAX_RAW: usize = 8 << 20;

/// Why a stored chunk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    #[error("it is not a chunk of a log, or cut short")]
    Malformed,
    #[error("it cannot be unpacked")]
    Unpack(#[from] std::io::Error),
}

/// Raw bytes in a row, with the time of each line that begins in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunk {
    pub bytes: Bytes,
    pub lines: Vec<LineTime>,
}

impl Chunk {
    /// # Errors
    /// zstd fails, which it does only without memory.
    pub fn pack(&self) -> Result<Vec<u8>, ChunkError> {
        let begins = self.lines.first().is_some_and(|line| line.at_byte == 0);
        let mut times = Vec::with_capacity(self.lines.len() * 2);
        let mut before = 0_i64;
        for line in &self.lines {
            let millis = line.time.as_millisecond();
            put_varint(&mut times, zigzag(millis.wrapping_sub(before)));
            before = millis;
        }
        let times = zstd::bulk::compress(&times, LEVEL)?;
        let raw = zstd::bulk::compress(&self.bytes, LEVEL)?;
        let mut packed = Vec::with_capacity(HEADER + times.len() + raw.len());
        packed.extend_from_slice(MAGIC);
        packed.push(if begins { BEGINS_LINE } else { 0 });
        packed.extend_from_slice(&u32::try_from(times.len()).unwrap_or(u32::MAX).to_le_bytes());
        packed.extend_from_slice(&times);
        packed.extend_from_slice(&raw);
        Ok(packed)
    }

    /// # Errors
    /// It is not a chunk, cut short, or longer than any chunk is.
    pub fn unpack(packed: &[u8]) -> Result<Self, ChunkError> {
        let (header, rest) = packed.split_at_checked(HEADER).ok_or(ChunkError::Malformed)?;
        let length: [u8; 4] = header[5..9].try_into().map_err(|_| ChunkError::Malformed)?;
        if &header[..4] != MAGIC {
            return Err(ChunkError::Malformed);
        }
        let length = u32::from_le_bytes(length) as usize;
        let (times, raw) = rest.split_at_checked(length).ok_or(ChunkError::Malformed)?;
        let bytes = Bytes::from(zstd::bulk::decompress(raw, MAX_RAW)?);
        let times = zstd::bulk::decompress(times, MAX_RAW * 2)?;
        let lines = place(&bytes, header[4] & BEGINS_LINE != 0, &read_times(&times));
        Ok(Self { bytes, lines })
    }

    /// The part behind the first `skip` bytes.
    #[must_use]
    pub fn behind(&self, skip: usize) -> Self {
        let lines = self.lines.iter().filter(|line| line.at_byte >= skip);
        Self {
            bytes: self.bytes.slice(skip.min(self.bytes.len())..),
            lines: lines
                .map(|line| LineTime {
                    at_byte: line.at_byte - skip,
                    time: line.time,
                })
                .collect(),
        }
    }
}

/// Gives each line its beginning.
fn place(bytes: &[u8], begins: bool, times: &[Timestamp]) -> Vec<LineTime> {
    let first = begins.then_some(0);
    let ends = bytes
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1);
    let starts = first.into_iter().chain(ends.filter(|at| *at < bytes.len()));
    starts
        .zip(times)
        .map(|(at_byte, time)| LineTime { at_byte, time: *time })
        .collect()
}

fn read_times(packed: &[u8]) -> Vec<Timestamp> {
    let mut times = Vec::new();
    let (mut value, mut shift, mut before) = (0_u64, 0_u32, 0_i64);
    for byte in packed {
        value |= u64::from(byte & 0x7f) << shift.min(63);
        shift += 7;
        if byte & 0x80 == 0 {
            before = before.wrapping_add(unzigzag(value));
            times.push(Timestamp::from_millisecond(before).unwrap_or(Timestamp::UNIX_EPOCH));
            (value, shift) = (0, 0);
        }
    }
    times
}

fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    ((number >> 1) as i64) ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(bytes: Vec<u8>, begins: bool, millis: i64) -> Chunk {
        let count = bytes.len() + 1;
        let times: Vec<Timestamp> = (0..count as i64)
            .map(|n| Timestamp::from_millisecond(millis + n * 7 - n % 3).unwrap())
            .collect();
        let lines = if bytes.is_empty() {
            Vec::new()
        } else {
            place(&bytes, begins, &times)
        };
        Chunk {
            bytes: bytes.into(),
            lines,
        }
    }

    proptest! {
        #[test]
        fn d09_any_bytes_come_back(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..2_000), begins: bool, millis in 0_i64..2_000_000_000_000) {
            let chunk = chunk(bytes, begins, millis);
            prop_assert_eq!(Chunk::unpack(&chunk.pack().unwrap()).unwrap(), chunk);
        }

        #[test]
        fn garbage_is_refused_not_believed(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Chunk::unpack(&bytes);
        }
    }

    #[test]
    fn a_part_keeps_its_lines() {
        let whole = chunk(b"one\ntwo\nthree".to_vec(), true, 5);
        let part = whole.behind(4);
        assert_eq!(part.bytes, "two\nthree");
        assert_eq!(
            part.lines.iter().map(|line| line.at_byte).collect::<Vec<_>>(),
            [0, 4]
        );
        assert_eq!(whole.behind(99).bytes, "");
    }
}

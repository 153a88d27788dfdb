// SPDX-License-Identifier: Apache-2.0
//! What happens to bytes between a source and their place: decompressed, counted, hashed, in constant memory.

use std::fmt;
use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use fledge_core::verification::{Expected, Hasher};

/// Why bytes that came whole can't be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    /// They aren't gzip data, or are damaged.
    Gzip(io::Error),
    /// They have another hash than expected.
    Hash {
        /// What they should be.
        expected: Expected,
        /// What they are.
        found: Expected,
    },
    /// They are more than allowed.
    TooLarge(u64),
    /// They can't be written.
    Write(io::Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gzip(error) => write!(f, "its contents are no gzip data, or damaged ({error})"),
            Self::Hash { expected, found } => {
                write!(f, "its contents have the hash {found}, but {expected} is expected")
            }
            Self::TooLarge(limit) => write!(f, "its contents are over {} MiB long", limit >> 20),
            Self::Write(error) => write!(f, "its contents can't be written: {error}"),
        }
    }
}

impl Unusable {
    /// What a person can do about it.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Gzip(_) => "remove \"compression\" from the configuration, or compress the contents",
            Self::Hash { .. } => "find out which of the two is right; the hash is that of the decompressed contents",
            Self::TooLarge(_) => "check that the URL leads to the right thing",
            Self::Write(_) => "see that the file system has space and is writable",
        }
    }
}

/// Takes the bytes of one resource, piece by piece.
pub(crate) struct Pipeline<W: Write> {
    stage: Stage<W>,
    expected: Option<Expected>,
}

enum Stage<W: Write> {
    Plain(Box<Sink<W>>),
    Gzip(Box<MultiGzDecoder<Sink<W>>>),
}

struct Sink<W: Write> {
    out: W,
    hasher: Option<Hasher>,
    size: u64,
    limit: u64,
    /// Errors of its own travel through the decoder as `io::Error`; here they stay what they are.
    failed: Option<Unusable>,
}

impl<W: Write> Pipeline<W> {
    /// Writes into `out` at most `limit` bytes.
    pub(crate) fn new(out: W, gzip: bool, expected: Option<Expected>, limit: u64) -> Self {
        let hasher = expected.as_ref().map(|expected| Hasher::new(expected.function()));
        let sink = Sink { out, hasher, size: 0, limit, failed: None };
        let stage = if gzip { Stage::Gzip(Box::new(MultiGzDecoder::new(sink))) } else { Stage::Plain(Box::new(sink)) };
        Self { stage, expected }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), Unusable> {
        match &mut self.stage {
            Stage::Plain(sink) => {
                sink.write_all(bytes).map_err(|error| sink.failed.take().unwrap_or(Unusable::Write(error)))
            }
            Stage::Gzip(decoder) => decoder
                .write_all(bytes)
                .map_err(|error| decoder.get_mut().failed.take().unwrap_or(Unusable::Gzip(error))),
        }
    }

    /// Ends the bytes: how many came out, and where to.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub(crate) fn finish(self) -> Result<(u64, W), Unusable> {
        let mut sink = match self.stage {
            Stage::Plain(sink) => *sink,
            Stage::Gzip(mut decoder) => {
                if let Err(error) = decoder.try_finish() {
                    return Err(decoder.get_mut().failed.take().unwrap_or(Unusable::Gzip(error)));
                }
                decoder.finish().map_err(Unusable::Gzip)?
            }
        };
        sink.out.flush().map_err(Unusable::Write)?;
        if let (Some(expected), Some(hasher)) = (self.expected, sink.hasher) {
            let found = hasher.finish();
            if found != expected {
                return Err(Unusable::Hash { expected, found });
            }
        }
        Ok((sink.size, sink.out))
    }
}

impl<W: Write> Write for Sink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fail = |failed: &mut Option<Unusable>, why: Unusable| {
            *failed = Some(why);
            io::Error::other("see the sink")
        };
        if self.size + bytes.len() as u64 > self.limit {
            return Err(fail(&mut self.failed, Unusable::TooLarge(self.limit)));
        }
        self.out.write_all(bytes).map_err(|error| fail(&mut self.failed, Unusable::Write(error)))?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compresses for tests.
#[cfg(test)]
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[cfg(test)]
mod tests {
    use fledge_core::verification::Function;

    use super::*;

    fn run(bytes: &[u8], gzip: bool, expected: Option<&str>, limit: u64) -> Result<Vec<u8>, String> {
        let expected = expected.map(|text| Expected::parse(text).unwrap());
        let mut pipeline = Pipeline::new(Vec::new(), gzip, expected, limit);
        let taken = bytes.chunks(7).try_for_each(|chunk| pipeline.take(chunk));
        let (size, out) = taken.and_then(|()| pipeline.finish()).map_err(|error| error.to_string())?;
        assert_eq!(size, out.len() as u64);
        Ok(out)
    }

    #[test]
    fn gzip_data_must_be_whole_and_may_have_members() {
        let text: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = gzip(&text);
        assert_eq!(run(&packed, true, None, u64::MAX).unwrap(), text);
        let two = [gzip(b"one"), gzip(b"two")].concat();
        assert_eq!(run(&two, true, None, u64::MAX).unwrap(), b"onetwo");
        assert_eq!(run(&gzip(b""), true, None, u64::MAX).unwrap(), b"");
        let mut damaged = packed.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 0xff;
        let crc = [&packed[..packed.len() - 8], &[1, 2, 3, 4], &packed[packed.len() - 4..]].concat();
        let garbage = [packed.as_slice(), b"garbage"].concat();
        for (what, bytes) in [
            ("empty", &b""[..]),
            ("no gzip", b"hello, this is no gzip data"),
            ("truncated in the header", &packed[..5]),
            ("truncated in the data", &packed[..packed.len() / 2]),
            ("truncated in the trailer", &packed[..packed.len() - 3]),
            ("truncated before the trailer", &packed[..packed.len() - 8]),
            ("damaged", &damaged),
            ("wrong checksum", &crc),
            ("garbage behind it", &garbage),
        ] {
            let result = run(bytes, true, None, u64::MAX);
            assert!(
                result.as_ref().is_err_and(|error| error.contains("no gzip data")),
                "{what}: {:?}",
                result.map(|_| ())
            );
        }
    }

    #[test]
    fn the_hash_is_that_of_the_decompressed_contents() {
        let mut hasher = Hasher::new(Function::Sha256);
        hasher.update(b"hello");
        let hash = hasher.finish().to_string();
        assert_eq!(run(&gzip(b"hello"), true, Some(&hash), u64::MAX).unwrap(), b"hello");
        assert_eq!(run(b"hello", false, Some(&hash), u64::MAX).unwrap(), b"hello");
        let error = run(b"hullo", false, Some(&hash), u64::MAX).unwrap_err();
        assert!(error.contains(&hash) && error.matches("sha256-").count() == 2, "{error}");
    }

    #[test]
    fn the_limit_counts_what_comes_out() {
        assert!(run(b"hello", false, None, 5).is_ok());
        assert!(run(b"hello!", false, None, 5).unwrap_err().contains("over 0 MiB"));
        let bomb = gzip(&vec![0; 4 << 20]);
        assert!(bomb.len() < 40_000);
        assert_eq!(run(&bomb, true, None, 3 << 20).unwrap_err(), "its contents are over 3 MiB long");
    }

    #[test]
    fn a_full_disk_is_told_as_such() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(rustix::io::Errno::NOSPC.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for packed in [false, true] {
            let mut pipeline = Pipeline::new(Full, packed, None, u64::MAX);
            let bytes = if packed { gzip(b"hello") } else { b"hello".to_vec() };
            let result = pipeline.take(&bytes).and_then(|()| pipeline.finish().map(|_| ()));
            assert!(matches!(result, Err(Unusable::Write(_))), "{packed}: {result:?}");
        }
    }
}

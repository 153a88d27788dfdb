// SPDX-License-Identifier: Apache-2.0
//! Hashes that contents have to have: `sha512-<hex>` or `sha256-<hex>`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256, Sha512};

/// A hash function.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Function {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Function {
    /// As configurations name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Hexadecimal digits of a hash.
    pub fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// Why a text is no expected hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ExpectedError {
    /// There is no `-` in it.
    #[error("it has no function before a hyphen, as in sha512-...")]
    Malformed,
    /// The part before the hyphen is no function that is known.
    #[error("{0:?} is no hash function that is known here")]
    Function(String),
    /// The wrong number of digits.
    #[error("a {function} hash has {expected} digits, this one has {found}", function = .function.name(), expected = .function.digits())]
    Length {
        /// The function that it names.
        function: Function,
        /// How many characters there are.
        found: usize,
    },
    /// Something that is no hexadecimal digit.
    #[error("the hash contains something other than hexadecimal digits")]
    Digits,
}

/// A hash that contents have to have.
#[derive(Clone, Eq, PartialEq)]
pub struct Expected {
    function: Function,
    digest: Vec<u8>,
}

impl Expected {
    /// Parses `sha512-<128 digits>` or `sha256-<64 digits>`; the digits in either case.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ExpectedError> {
        let (function, digits) = text.split_once('-').ok_or(ExpectedError::Malformed)?;
        let function = match function {
            "sha256" => Function::Sha256,
            "sha512" => Function::Sha512,
            other => return Err(ExpectedError::Function(other.into())),
        };
        if digits.len() != function.digits() {
            return Err(ExpectedError::Length { function, found: digits.chars().count() });
        }
        let mut digest = Vec::with_capacity(function.digits() / 2);
        let mut values = digits.chars().map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()));
        while let Some(high) = values.next() {
            let (high, low) = high.zip(values.next().flatten()).ok_or(ExpectedError::Digits)?;
            digest.push((high << 4) | low);
        }
        Ok(Self { function, digest })
    }

    /// The function.
    pub fn function(&self) -> Function {
        self.function
    }

    /// The hash as bytes.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.function.name(), HEXLOWER.encode(&self.digest))
    }
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes what passes by.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-512.
    Sha512(Sha512),
}

impl Hasher {
    /// An empty one.
    pub fn new(function: Function) -> Self {
        match function {
            Function::Sha256 => Self::Sha256(Sha256::new()),
            Function::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The hash of all bytes taken.
    pub fn finish(self) -> Expected {
        match self {
            Self::Sha256(hasher) => {
                Expected { function: Function::Sha256, digest: hasher.finalize().as_slice().to_vec() }
            }
            Self::Sha512(hasher) => {
                Expected { function: Function::Sha512, digest: hasher.finalize().as_slice().to_vec() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    const EMPTY: &str = "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn hashes_in_pieces_what_the_expected_hash_says() {
        assert_eq!(Hasher::new(Function::Sha256).finish(), Expected::parse(EMPTY).unwrap());
        for function in [Function::Sha256, Function::Sha512] {
            let mut pieces = Hasher::new(function);
            pieces.update(b"abc");
            pieces.update(b"");
            pieces.update(b"def");
            let mut whole = Hasher::new(function);
            whole.update(b"abcdef");
            let whole = whole.finish();
            assert_eq!(pieces.finish(), whole);
            assert_eq!(Expected::parse(&whole.to_string()).unwrap(), whole);
            assert_eq!(whole.to_string().len(), function.name().len() + 1 + function.digits());
        }
        let abc = "sha512-ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let mut hasher = Hasher::new(Function::Sha512);
        hasher.update(b"abc");
        assert_eq!(hasher.finish().to_string(), abc);
    }

    #[test]
    fn reads_capital_digits() {
        let (function, digits) = EMPTY.split_once('-').unwrap();
        let capitals = alloc::format!("{function}-{}", digits.to_uppercase());
        assert_eq!(Expected::parse(&capitals), Expected::parse(EMPTY));
    }

    #[test]
    fn says_what_is_wrong() {
        let wrong = |text: &str| Expected::parse(text).unwrap_err();
        assert_eq!(wrong(""), ExpectedError::Malformed);
        assert_eq!(wrong("sha512:00"), ExpectedError::Malformed);
        assert_eq!(wrong("md5-00"), ExpectedError::Function("md5".into()));
        assert_eq!(wrong("SHA512-00"), ExpectedError::Function("SHA512".into()));
        assert_eq!(wrong("sha512-00"), ExpectedError::Length { function: Function::Sha512, found: 2 });
        assert_eq!(
            wrong(&EMPTY.replace("256", "512")),
            ExpectedError::Length { function: Function::Sha512, found: 64 }
        );
        assert_eq!(wrong(&EMPTY.replace('e', "g")), ExpectedError::Digits);
        assert_eq!(wrong("sha256-0").to_string(), "a sha256 hash has 64 digits, this one has 1");
    }
}

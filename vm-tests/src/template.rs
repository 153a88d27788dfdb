// SPDX-License-Identifier: Apache-2.0
//! Placeholders in configs and in `case.toml`: what is known only when a case runs.
//!
//! | placeholder | stands for |
//! |---|---|
//! | `@NONCE@` | a word that no other run has |
//! | `@HTTP@`, `@HTTPS@` | the server's address as the guest sees it, without a trailing slash |
//! | `@CA@`, `@AUTHORITY@` | a data URL of the run's certificate authority, its PEM text |
//! | `@TEXT:file@` | the file's text, escaped for a JSON string |
//! | `@DATA:file@`, `@GZIP-DATA:file@` | a data URL of the file, as it is or packed with gzip |
//! | `@SHA512:file@`, `@SHA256:file@` | `sha512-...` of the file, as `verification.hash` wants it |
//! | `@SHA256-HEX:file@` | the same without `sha256-`, as the checker tells it |
//! | `@SSH-KEY:name@` | an Ed25519 public key, the same for a name throughout the run |
//! | `@TANG@`, `@TANG-THUMBPRINT@` | the tang server's address as the guest sees it, the thumbprint of its signing key |
//! | `@TANG-ADVERTISEMENT@` | its advertisement, escaped for a JSON string |
//! | `@YESCRYPT:name@` | a hash of a password that is made for the run, the same for a name |
//!
//! Files stand in the case's folder (or the demo's), and their own placeholders are replaced first.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use data_encoding::{BASE64, HEXLOWER};
use flate2::Compression;
use flate2::write::GzEncoder;
use rcgen::{KeyPair, PKCS_ED25519};
use sha2::{Digest as _, Sha256, Sha512};

use crate::peripherals::Tang;
use crate::serve::Server;
use crate::tools::Tools;
use crate::{case, host};

/// The values of one run of one case.
pub struct Values<'a> {
    folder: PathBuf,
    tools: &'a Tools,
    server: &'a Server,
    nonce: String,
    keys: RefCell<BTreeMap<String, String>>,
    passwords: RefCell<BTreeMap<String, (String, String)>>,
    /// The case's tang server.
    pub(crate) tang: Option<Tang>,
}

impl<'a> Values<'a> {
    /// Fresh values for the files of `folder`.
    ///
    /// # Errors
    /// If the machine gives no random numbers.
    pub fn new(folder: &Path, tools: &'a Tools, server: &'a Server) -> Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            tools,
            server,
            nonce: HEXLOWER.encode(&random(8)?),
            keys: RefCell::default(),
            passwords: RefCell::default(),
            tang: None,
        })
    }

    /// The word that no other run has.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    /// The passwords made so far, by name.
    pub fn passwords(&self) -> BTreeMap<String, String> {
        self.passwords.borrow().iter().map(|(name, (password, _))| (name.clone(), password.clone())).collect()
    }

    /// A file of the case's folder with its placeholders replaced; one that isn't UTF-8 is taken as it is.
    ///
    /// # Errors
    /// If it can't be read, or holds a placeholder that nobody knows.
    pub fn file(&self, name: &str) -> Result<Vec<u8>> {
        let path = case::resolve(&self.folder, name);
        let bytes = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(self.expand(&text).with_context(|| format!("in {}", path.display()))?.into_bytes()),
            Err(error) => Ok(error.into_bytes()),
        }
    }

    /// Replaces the placeholders of a text. An `@` that doesn't begin one stays.
    ///
    /// # Errors
    /// If a placeholder's file can't be read or its value can't be made.
    pub fn expand(&self, text: &str) -> Result<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('@') {
            out.push_str(before);
            if let Some((name, beyond)) = after.split_once('@').filter(|(name, _)| is_placeholder(name)) {
                out.push_str(&self.value(name).with_context(|| format!("the placeholder @{name}@"))?);
                rest = beyond;
            } else {
                out.push('@');
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str) -> Result<String> {
        let (kind, argument) = name.split_once(':').unwrap_or((name, ""));
        Ok(match kind {
            "NONCE" => self.nonce.clone(),
            "HTTP" => self.server.http(),
            "HTTPS" => self.server.https(),
            "CA" => data_url(self.server.authority().as_bytes()),
            "TEXT" => escaped(&String::from_utf8(self.file(argument)?)?)?,
            "AUTHORITY" => self.server.authority().to_owned(),
            "DATA" => data_url(&self.file(argument)?),
            "GZIP-DATA" => data_url(&gzip(&self.file(argument)?)?),
            "SHA512" => format!("sha512-{}", HEXLOWER.encode(&Sha512::digest(self.file(argument)?))),
            "SHA256" => format!("sha256-{}", HEXLOWER.encode(&Sha256::digest(self.file(argument)?))),
            "SHA256-HEX" => HEXLOWER.encode(&Sha256::digest(self.file(argument)?)),
            "SSH-KEY" => self.ssh_key(argument)?,
            "TANG" => self.tang()?.url(),
            "TANG-THUMBPRINT" => self.tang()?.thumbprint().to_owned(),
            "TANG-ADVERTISEMENT" => escaped(self.tang()?.advertisement())?,
            "YESCRYPT" => self.yescrypt(argument)?,
            _ => bail!("is not known"),
        })
    }

    fn tang(&self) -> Result<&Tang> {
        self.tang.as_ref().context("the case has no `tang = true`")
    }

    /// A public key in the form of `authorized_keys` (RFC 4253, section 6.6; RFC 8709).
    fn ssh_key(&self, name: &str) -> Result<String> {
        if let Some(known) = self.keys.borrow().get(name) {
            return Ok(known.clone());
        }
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut blob = Vec::new();
        for part in [b"ssh-ed25519".as_slice(), pair.public_key_raw()] {
            blob.extend_from_slice(&u32::try_from(part.len())?.to_be_bytes());
            blob.extend_from_slice(part);
        }
        let line = format!("ssh-ed25519 {} {name}@fledge-test", BASE64.encode(&blob));
        self.keys.borrow_mut().insert(name.to_owned(), line.clone());
        Ok(line)
    }

    /// A yescrypt hash (crypt(5)), computed by the tools' own crypt library.
    fn yescrypt(&self, name: &str) -> Result<String> {
        if let Some((_, hash)) = self.passwords.borrow().get(name) {
            return Ok(hash.clone());
        }
        let password = HEXLOWER.encode(&random(4)?);
        // 128 bits in 22 characters of crypt's alphabet: of the last only two bits count, the others must be 0.
        let salt = format!("{}.", HEXLOWER.encode(&random(11)?).get(..21).unwrap_or_default());
        let mut perl = self.tools.command("perl")?;
        perl.args(["-e", "$_ = <STDIN>; chomp; print crypt($_, $ARGV[0])", &format!("$y$j9T${salt}")]);
        let hash = String::from_utf8(host::feed(&mut perl, format!("{password}\n").as_bytes())?)?;
        if !hash.starts_with("$y$") {
            bail!("the tools' crypt library made no yescrypt hash: {hash:?}");
        }
        self.passwords.borrow_mut().insert(name.to_owned(), (password, hash.clone()));
        Ok(hash)
    }
}

fn is_placeholder(name: &str) -> bool {
    let kind = name.split_once(':').map_or(name, |(kind, _)| kind);
    !kind.is_empty()
        && kind.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.contains(char::is_whitespace)
}

/// A text as it stands between the quotes of a JSON string.
fn escaped(text: &str) -> Result<String> {
    let quoted = serde_json::to_string(text)?;
    Ok(quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned())
}

fn data_url(bytes: &[u8]) -> String {
    let mut url = "data:;base64,".to_owned();
    url.push_str(&BASE64.encode(bytes));
    url
}

/// The bytes as a gzip file.
///
/// # Errors
/// Never in practice: the file is in memory.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn random(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom").context("no random numbers")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_replaced_and_other_signs_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("inner"), "nonce \"@NONCE@\"\n").unwrap();
        let (tools, server) = (Tools::new(folder.path().to_owned()), Server::start().unwrap());
        let values = Values::new(folder.path(), &tools, &server).unwrap();
        let nonce = values.nonce().to_owned();
        let text = values.expand("a@b.c @NONCE@ getty@tty1.service @TEXT:inner@ @HTTP@/x").unwrap();
        let address = server.http();
        assert_eq!(text, format!("a@b.c {nonce} getty@tty1.service nonce \\\"{nonce}\\\"\\n {address}/x"));
        assert!(values.expand("@CA@").unwrap().starts_with("data:;base64,LS0t"));
        assert!(values.expand("@SHA256:inner@").unwrap().starts_with("sha256-"));
        assert_eq!(values.expand("@SSH-KEY:one@").unwrap(), values.expand("@SSH-KEY:one@").unwrap());
        assert!(values.expand("@TEXT:missing@").unwrap_err().to_string().contains("@TEXT:missing@"));
        assert!(values.expand("@WRONG@").is_err());
    }
}

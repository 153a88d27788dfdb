// SPDX-License-Identifier: Apache-2.0
//! Contents that come from a URL.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::model::Entry;
use crate::config::section::section;

section! {
    /// Contents that come from a URL.
    pub item Resource {
        /// `gzip`, or empty for none.
        compression: Option<String> = "compression", V3_0;
        /// Headers of the request, for `http` and `https`.
        http_headers: Vec<HttpHeader> = "httpHeaders", V3_1;
        /// The URL.
        source: Option<String> = "source", V3_0;
        /// What the contents have to be.
        verification: Verification = "verification", V3_0;
    }
}

impl Entry for Resource {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.source.as_deref().unwrap_or_default())
    }
}

section! {
    /// A header of a request.
    pub item HttpHeader {
        /// Its name.
        name: String = "name", V3_1;
        /// Its value. Without one, merging removes the header of the parent.
        value: Option<String> = "value", V3_1;
    }
}

impl Entry for HttpHeader {
    fn key(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.name)
    }

    fn removes(&self) -> bool {
        self.value.is_none()
    }
}

section! {
    /// What contents have to be.
    pub part Verification {
        /// `sha512-` or `sha256-` and the hash of the contents after decompression, in hexadecimal.
        hash: Option<String> = "hash", V3_0;
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The one runner of the integration tests: one module a subject.

mod http;

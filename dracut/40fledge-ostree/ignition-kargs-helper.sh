#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A file of its own and no link: a distribution's dracut module may copy its own helper over this one.
exec /usr/bin/fledge ignition-kargs-helper "$@"

//! The seed proxy's file.

use super::{Key, Kind, number, required, text};

pub(super) const KEYS: &[Key] = &[
    required(
        "Apps",
        Kind::Array { of: &Kind::Table, min: 1 },
        "The apps of the seed proxy's file; everything that it cannot say is as by default.",
    ),
    required(
        "Apps.Name",
        Kind::Text { name: "string of 1–64 bytes", pattern: "^.+$", length_max: 64 },
        "`name`",
    ),
    required(
        "Apps.Ports",
        Kind::Array { of: &number(1, 65_535), min: 1 },
        "`listen`, each port in dual stack: `15001` is `\":15001\"`",
    ),
    required(
        "Apps.Targets",
        Kind::Array {
            of: &text(
                "address or host name with port",
                r"^([0-9A-Za-z._-]+:[0-9]{1,5}|\[[0-9A-Fa-f:.%]+\]:[0-9]{1,5}|unix:[^@].*)$",
            ),
            min: 1,
        },
        "`backends`; a target that is given twice has twice the weight",
    ),
];

//! Wrong files, and the exact words about them.

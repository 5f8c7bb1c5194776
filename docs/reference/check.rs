//! Holds a reference page to the code.
//!
//! What stands on a page between `<!-- begin NAME -->` and `<!-- end NAME -->` is written by a test, the rest by
//! people. The tests `reference` of the crates include this file; `make reference` makes them write instead of
//! compare.

use std::path::Path;

/// Demands that the block `name` of `docs/reference/{page}` is `expected`.
pub(crate) fn check(page: &str, name: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference").join(page);
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->\n"));
    let (before, rest) = text.split_once(&begin).expect("the page has the block");
    let (found, after) = rest.split_once(&end).expect("the block has an end");
    if found == expected {
        return;
    }
    assert!(
        std::env::var_os("UPDATE_REFERENCE").is_some(),
        "docs/reference/{page}, {name}: run `make reference` and commit the page.\n--- page\n{found}\n--- code\n{expected}"
    );
    std::fs::write(&path, [before, &begin, expected, &end, after].concat()).expect("the page can be written");
}

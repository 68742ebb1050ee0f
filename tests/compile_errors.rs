//! Mistakes that newcomers make, and what the compiler tells them. The text of an error may differ from one version of
//! the compiler to the next: `TRYBUILD=overwrite cargo test --test compile_errors` writes it anew.

#[test]
fn the_usual_mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

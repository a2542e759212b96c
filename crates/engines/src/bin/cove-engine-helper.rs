//! Supervises one sandbox; what `cove __supervise` is to the product, for this crate's tests.

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    cove_engines::helper_main();
    std::process::ExitCode::from(2)
}

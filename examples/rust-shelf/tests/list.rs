use std::process::Command;

fn shelf(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_shelf")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_list_keeps_the_order_of_the_file() {
    let (success, stdout, _) = shelf(&["list", "tests/data/stock.csv"]);
    assert!(success);
    let names: Vec<&str> = stdout.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, ["lamp", "chair", "desk", "cable"]);
    assert!(stdout.contains("chair                    12      59.00\n"), "{stdout}");
}

#[test]
fn a_missing_file_is_an_error() {
    let (success, stdout, stderr) = shelf(&["list", "tests/data/none.csv"]);
    assert!(!success && stdout.is_empty());
    assert!(stderr.starts_with("shelf: tests/data/none.csv: "), "{stderr}");
}

#[test]
fn faults_name_their_line() {
    for (text, want) in [
        ("lamp, 1", "line 1: three fields are needed, got 2"),
        ("lamp, 1, 1.00\n, 1, 1.00", "line 2: the name is empty"),
        ("lamp, -1, 1.00", "line 1: `-1` is not a quantity"),
        ("\n\nlamp, 1, 1", "line 3: `1` is not a price such as 12.50"),
    ] {
        assert_eq!(text.parse::<shelf::Stock>().unwrap_err().to_string(), want);
    }
}

// SPDX-License-Identifier: Apache-2.0
//! The kargs stage.

use super::*;

fn planned(json: &str) -> String {
    let (config, sources) = config(json);
    show(kargs(&config, &Facts::default(), &sources))
}

#[test]
fn arguments_are_one_step_with_the_place_of_the_first() {
    assert_plan(
        &planned(
            r#"{"kernelArguments": {
  "shouldExist": ["quiet", "dyndbg=\"file a +p\""],
  "shouldNotExist": ["debug"]}}"#,
        ),
        r#"
kargs
   1 set the kernel arguments: with quiet, dyndbg="file a +p"; without debug  [test:3:19 at $.kernelArguments.shouldExist.0]
"#,
    );
    assert_plan(
        &planned("{\"kernelArguments\": {\n  \"shouldNotExist\": [\"a\", \"b\"]}}"),
        "kargs\n 1 set the kernel arguments: without a, b  [test:3:22 at $.kernelArguments.shouldNotExist.0]",
    );
}

#[test]
fn nobody_is_called_for_nothing() {
    assert_plan(&planned(r#"{"kernelArguments": {"shouldExist": []}}"#), "kargs\nnothing to do");
}

#[test]
fn what_would_break_the_line_is_refused_where_it_stands() {
    let said =
        planned(r#"{"kernelArguments": {"shouldExist": ["fine", "a\nlinux /evil"], "shouldNotExist": ["\u0000"]}}"#);
    assert_eq!(said.matches("refused: ").count(), 2, "{said}");
    assert!(said.contains("where: test:2:45 at $.kernelArguments.shouldExist.1"), "{said}");
    assert!(said.contains("at $.kernelArguments.shouldNotExist.0"), "{said}");
}

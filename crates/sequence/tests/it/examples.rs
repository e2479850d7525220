//! Every example is one that people may copy.

use crate::world::package;

#[test]
fn every_example_is_clean() {
    let packages = [
        package("debian-12-laptop", "os-image"),
        package("boot-image", "boot-image"),
        package("openjdk-17-jre", "application"),
        package("vim-editor", "application"),
        package("norwegian-dictionary", "application"),
    ];
    let around = sequence::lint::Surroundings {
        packages: &packages,
        models: &[],
    };
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/sequences");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            sequence::lint::lint(&text, &around),
            [],
            "{}",
            path.display()
        );
        assert!(sequence::document::compile(&text).is_ok());
        count += 1;
    }
    assert!(count > 0, "there are no examples in {folder}");
}

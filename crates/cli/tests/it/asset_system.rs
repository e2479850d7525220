//! What other systems get: the asset table.

use crate::world::World;

#[test]
fn the_asset_systems_table() {
    let world = World::start();
    world.run(&["collection", "create", "pupils"]);
    world.write(
        "assets.csv",
        "Serienummer;Skolekode;Skole;Klasse\nPF1;BJO;Bjørnsletta;1STA\nPF2;TRO;Tromsø;1STA\n",
    );
    world.run(&["asset", "import", "assets.csv", "--collection", "pupils"]);
    let csv = world.run(&["asset", "export"]);
    assert!(csv.starts_with("device_id,serial,"), "{csv}");
    assert_eq!(csv.lines().count(), 3);
    let one = world.json(&["asset", "export", "--site", "TRO"]);
    assert_eq!(
        (&one[0]["serial"], &one[1]),
        (&"PF2".into(), &serde_json::Value::Null)
    );
    world.run(&[
        "asset", "export", "--format", "json", "--output", "all.json",
    ]);
    let file: serde_json::Value =
        serde_json::from_slice(&std::fs::read(world.path("all.json")).unwrap()).unwrap();
    assert_eq!(file.as_array().unwrap().len(), 2);
}

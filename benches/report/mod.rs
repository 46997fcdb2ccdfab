//! What every benchmark prints and writes: a table, and `target/bench/NAME.json`, one flat object.

use std::fs;
use std::path::Path;

/// Prints the table and writes the file.
pub fn report(name: &str, metrics: &[(String, f64)]) {
    println!("{name}");
    for (metric, value) in metrics {
        println!("  {metric:<32} {value:>14.3}");
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench");
    fs::create_dir_all(&dir).expect("target is writable");
    let object: serde_json::Map<String, serde_json::Value> =
        metrics.iter().map(|(metric, value)| (metric.clone(), serde_json::json!(value))).collect();
    let text = serde_json::to_string_pretty(&object).expect("numbers serialise");
    fs::write(dir.join(format!("{name}.json")), text).expect("target is writable");
}

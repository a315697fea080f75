//! Compiles `nexus.proto` with protox, so that no `protoc` is needed.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=nexus/v1/nexus.proto");
    let descriptors = protox::compile(["nexus/v1/nexus.proto"], ["."])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

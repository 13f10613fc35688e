// The fuzzer as a program: node dist/test/fuzz/main.js [SECONDS [SEED]]
import { fuzz } from "./run.js";

const [seconds = "60", seed = "1"] = process.argv.slice(2);
console.log(JSON.stringify(await fuzz(Number(seed), Number(seconds))));

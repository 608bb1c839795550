// Whether the AsyncAPI document is one, by the initiative's own parser. Usage: node asyncapi.mjs FILE
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
const faults = diagnostics.filter((it) => it.severity <= 1);
for (const fault of faults) console.error(`${fault.path.join(".")}: ${fault.message}`);
if (document === undefined || faults.length > 0) process.exit(1);
console.log(`${document.channels().length} channels, ${document.messages().length} messages`);

// What a client's program is asked, and how it answers: as asked.py.
export const MODEL = "hermes-actors";
export const asked = JSON.parse(process.argv[2]);

export const look = ({ window }) => `rain in the ${window}`;

export const LOOK = {
  name: "look",
  description: "Look out of a window.",
  parameters: { type: "object", properties: { window: { type: "string" } }, required: ["window"] },
};

export async function answering(say) {
  let said;
  try {
    said = { text: await say(asked) };
  } catch (error) {
    said = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(said));
  process.exit(0); // some clients keep a connection, and with it the process
}

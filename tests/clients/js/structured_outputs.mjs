// Schemas as the two generators for zod write them; each answer is parsed by the zod schema itself.
import { readFileSync } from 'node:fs'
import { Ollama } from 'ollama'
import { z } from 'zod'
import * as z4 from 'zod/v4'
import { zodToJsonSchema } from 'zod-to-json-schema'

const [host, model, seeing, picture] = process.argv.slice(2)
const ollama = new Ollama({ host })

const friendsOf = (z) =>
  z.object({
    friends: z
      .array(
        z.object({
          name: z.string().describe('The name of the friend'),
          age: z.number().int().min(0).max(120).describe('The age of the friend'),
          is_available: z.boolean().describe('Whether the friend is available'),
        }),
      )
      .min(1)
      .max(2)
      .describe('An array of friends'),
    mood: z.enum(['good', 'bad']).nullable(),
    note: z.string().max(10).optional(),
  })

const description = z.object({
  summary: z.string().max(20).describe('A concise summary of the image'),
  objects: z
    .array(
      z.object({
        name: z.string().max(10),
        confidence: z.number(), // the model that sees is a random one, which writes every digit that it may
        attributes: z.record(z.any()).optional().describe('Additional attributes of the object'),
      }),
    )
    .max(1),
  colors: z.array(z.string().max(9)).max(2),
  time_of_day: z.enum(['Morning', 'Afternoon', 'Evening', 'Night']),
})

const ask = async (model, message, format, schema) => {
  const options = { temperature: 0, num_predict: 400 }
  const response = await ollama.chat({ model, messages: [{ role: 'user', ...message }], format, options })
  return schema.parse(JSON.parse(response.message.content))
}

const question = { content: 'I have two friends: Ollama, 22, and Alonso, 23. Return a list of friends in JSON format' }
const old = friendsOf(z)
const young = friendsOf(z4)
const images = [readFileSync(picture).toString('base64')]

console.log(
  JSON.stringify({
    old: await ask(model, question, zodToJsonSchema(old), old),
    young: await ask(model, question, z4.toJSONSchema(young), young),
    seen: await ask(seeing, { content: 'Describe this image.', images }, zodToJsonSchema(description), description),
  }),
)

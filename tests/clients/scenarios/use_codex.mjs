// OpenAI's coding agent with --oss: it asks for a plain answer, then for a file that it has to write with its shell.
import { runAgent, tell } from './agents.mjs'
import { url } from './scene.mjs'

const ask = (model, prompt) => {
  const flags = ['--oss', '--local-provider', 'ollama', '-m', `${model}:latest`, '--sandbox', 'danger-full-access', '--json']
  const { output, written } = runAgent('codex', ['exec', ...flags, prompt], { CODEX_OSS_BASE_URL: `${url}/v1` })
  const events = output.trim().split('\n').map((line) => JSON.parse(line))
  const items = events.filter((event) => event.type === 'item.completed').map((event) => event.item)
  const said = (type) => items.filter((item) => item.type === type).map((item) => item.text)
  return {
    thinking: said('reasoning').map((text) => text.trim()),
    said: said('agent_message'),
    commands: items.filter((item) => item.type === 'command_execution').map((item) => item.exit_code),
    last: events.at(-1).type,
    written,
  }
}

tell({ hi: ask('thinker', 'Say hi.'), writes: ask('codex-coder', 'Write the answer to answer.txt.') })

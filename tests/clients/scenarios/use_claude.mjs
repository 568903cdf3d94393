// Anthropic's coding agent: it asks for a plain answer, then for a file that it has to write with its shell.
import { runAgent, tell } from './agents.mjs'
import { key, url } from './scene.mjs'

const ask = (model, prompt) => {
  const { output, written } = runAgent(
    'claude',
    ['-p', prompt, '--output-format', 'json', '--permission-mode', 'acceptEdits', '--allowedTools', 'Bash(echo:*)'],
    {
      ANTHROPIC_BASE_URL: url,
      ANTHROPIC_AUTH_TOKEN: key,
      ANTHROPIC_MODEL: model,
      ANTHROPIC_SMALL_FAST_MODEL: model,
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
    },
  )
  const { result, num_turns, is_error } = JSON.parse(output)
  return { result, turns: num_turns, is_error, written }
}

tell({ hi: ask('thinker', 'Say hi.'), writes: ask('claude-coder', 'Write the answer to answer.txt.') })

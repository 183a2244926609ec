"""`charnn completion`: print the script that completes charnn's command line in a shell."""

import click
from click.shell_completion import get_completion_class

from charnn.cli.help import Command


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="[bash|zsh|fish]")
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the script for shell completion of commands, options, runs and files.

    \b
    Examples:
      charnn completion bash >> ~/.bashrc
      charnn completion zsh >> ~/.zshrc
      charnn completion fish > ~/.config/fish/completions/charnn.fish
    """
    from charnn.cli.main import COMPLETE

    completion = get_completion_class(shell)
    assert completion is not None
    script = completion(context.find_root().command, {}, "charnn", COMPLETE)
    click.echo(script.source())

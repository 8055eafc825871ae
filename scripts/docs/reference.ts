// All pages of the reference.
import { commandsPage } from './commands-page.ts';
import { configurationPage } from './configuration-page.ts';
import { errorsPage } from './errors-page.ts';
import { eventsPage, messagesPage } from './messages-page.ts';
import { metricsPage } from './metrics-page.ts';
import { packagesPage } from './packages-page.ts';
import { startRequestPage } from './start-request-page.ts';

/** File names below `docs/reference`, and what is in them. The same code gives the same bytes. */
export async function referencePages(): Promise<Map<string, string>> {
  return new Map([
    ['commands.md', await commandsPage()],
    ['errors.md', errorsPage()],
    ['events.md', eventsPage()],
    ['messages.md', messagesPage()],
    ['metrics.md', metricsPage()],
    ['node-configuration.md', await configurationPage()],
    ['packages.md', packagesPage()],
    ['start-request.md', startRequestPage()],
  ]);
}
